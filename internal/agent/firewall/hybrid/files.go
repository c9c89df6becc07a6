package hybrid

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// zonesFile keeps the ports' conntrack zones; the raw table's rules keep them too and are believed first.
const zonesFile = "ct-zones.json"

// maxZonesFile bounds what is read, in bytes: 61,439 zones of 50 bytes each fit.
const maxZonesFile = 8 << 20

func zonesPath(dir string) string { return filepath.Join(dir, zonesFile) }

func (w *Firewall) loadZones() map[string]uint16 {
	out := map[string]uint16{}
	st, err := os.Lstat(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxZonesFile) {
		err = errors.New("not a regular file of at most 8 MiB")
	}
	if err == nil {
		var b []byte
		if b, err = os.ReadFile(w.path); err == nil {
			err = json.Unmarshal(b, &out)
		}
	}
	if err != nil {
		w.log.Warn("cannot read saved conntrack zones, going on without", "file", w.path, "err", err)
		return nil
	}
	return out
}

func (w *Firewall) saveZones() {
	b, err := json.Marshal(w.engine.Zones())
	if err == nil {
		if err = os.WriteFile(w.path+".new", b, 0o600); err == nil {
			err = os.Rename(w.path+".new", w.path)
		}
	}
	if err != nil {
		w.log.Warn("cannot save conntrack zones; they stay in the raw table", "err", err)
	}
}
