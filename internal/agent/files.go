package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"baryon/internal/agent/l2"
	"baryon/internal/nodestate"
)

// Files in the state directory.
const (
	vlansFile = "local-vlans.json"
	plugsDir  = "plugs"
)

// Bounds of what is read, in bytes.  User data alone may have 64 KiB, and JSON makes more of it.
const (
	maxVLANsFile = 4 << 20
	maxPlugFile  = 512 << 10
)

// savedVLAN is one line of the local VLANs' file.
type savedVLAN struct {
	Network string `json:"network"`
	Type    string `json:"type"`
	Segment uint32 `json:"segment"`
	VLAN    uint16 `json:"vlan"`
}

// loadVLANs reads the local VLANs that an earlier run has given.  They matter where ports have lost their tags (a database made anew);
// without the file the VLANs come from tags and hashes, so a bad one is only worth a warning.
func (a *agent) loadVLANs() {
	path := filepath.Join(a.cfg.StateDir, vlansFile)
	b, err := readSmall(path, maxVLANsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var saved []savedVLAN
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil {
		a.log.Warn("cannot read saved local VLANs, going on without", "file", path, "err", err)
		return
	}
	a.savedVLANs = make(map[l2.Segment]uint16, len(saved))
	for _, s := range saved {
		a.savedVLANs[l2.Segment{NetworkID: s.Network, Type: s.Type, ID: s.Segment}] = s.VLAN
	}
}

func (a *agent) saveVLANs() {
	saved := make([]savedVLAN, 0, len(a.engine.VLANs()))
	for s, id := range a.engine.VLANs() {
		saved = append(saved, savedVLAN{s.NetworkID, s.Type, s.ID, id})
	}
	b, err := json.Marshal(saved)
	if err == nil {
		err = writeFile(filepath.Join(a.cfg.StateDir, vlansFile), b)
	}
	if err != nil {
		a.log.Warn("cannot save local VLANs; they stay in the ports' tags", "err", err)
	}
}

// writeFile replaces a file in one step.
func writeFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name()) // gone already after a rename
	_, err = tmp.Write(b)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// readSmall reads a regular file of at most limit bytes and follows no symbolic link.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes", path, limit)
	}
	return b, nil
}

// takeInstance hands on what `baryon plug` left for a port that is plugged, once per change of external_ids:baryon-plug.
func (a *agent) takeInstance(portID, mark string) {
	if mark == "" || a.plugs[portID] == mark {
		return
	}
	if u, err := uuid.Parse(portID); err != nil || u.String() != portID {
		return // an iface-id is anybody's word; only a port's id makes a file name
	}
	b, err := readSmall(filepath.Join(a.cfg.StateDir, plugsDir, portID+".json"), maxPlugFile)
	var in nodestate.Instance
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	a.plugs[portID] = mark
	if err != nil {
		a.log.Warn("cannot read instance data of plugged port", "port", portID, "err", err)
		return
	}
	a.cfg.Source.ReportInstance(portID, &in)
}

// dropInstance takes back what was read for a port whose device has gone, so that a new plug is read again.
func (a *agent) dropInstance(portID string) {
	if _, ok := a.plugs[portID]; ok {
		delete(a.plugs, portID)
		a.cfg.Source.ReportInstance(portID, nil)
	}
}
