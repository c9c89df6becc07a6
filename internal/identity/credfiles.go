package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// The credential files and the suffix under which they wait for the commit that makes them true.
const (
	openrcFile = "openrc"
	cloudsFile = "clouds.yaml"
	draft      = ".new"
	// CloudName is the cloud's name in clouds.yaml.
	CloudName = "baryon"
)

type cloudsYAML struct {
	Clouds map[string]cloudYAML `yaml:"clouds"`
}

type cloudYAML struct {
	Auth               map[string]string `yaml:"auth"`
	RegionName         string            `yaml:"region_name"`
	Interface          string            `yaml:"interface"`
	IdentityAPIVersion int               `yaml:"identity_api_version"`
}

// draftFiles writes openrc and clouds.yaml under their draft names.
func draftFiles(o BootstrapOptions, password string) error {
	if o.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory for credentials: %w", err)
	}
	url := o.IdentityURL + "/v3"
	clouds, err := yaml.Marshal(cloudsYAML{Clouds: map[string]cloudYAML{CloudName: {
		Auth: map[string]string{
			"auth_url": url, "username": "admin", "password": password, "project_name": "admin",
			"user_domain_name": "Default", "project_domain_name": "Default",
		},
		RegionName: o.Region, Interface: "public", IdentityAPIVersion: 3,
	}}})
	if err != nil {
		return fmt.Errorf("encode %s: %w", cloudsFile, err)
	}
	var rc strings.Builder
	rc.WriteString("# Credentials of the cloud's administrator: source this file, then use the openstack command.\n")
	for _, v := range [][2]string{
		{"AUTH_TYPE", "password"}, {"AUTH_URL", url}, {"USERNAME", "admin"}, {"PASSWORD", password}, {"PROJECT_NAME", "admin"},
		{"USER_DOMAIN_NAME", "Default"}, {"PROJECT_DOMAIN_NAME", "Default"}, {"REGION_NAME", o.Region},
		{"INTERFACE", "public"}, {"IDENTITY_API_VERSION", "3"},
	} {
		fmt.Fprintf(&rc, "export OS_%s=%s\n", v[0], shellQuote(v[1]))
	}
	if err := writeSynced(filepath.Join(o.Dir, openrcFile+draft), []byte(rc.String())); err != nil {
		return err
	}
	return writeSynced(filepath.Join(o.Dir, cloudsFile+draft), clouds)
}

// finishFiles gives drafts their names when their password is the right one, and drops them otherwise.  clouds.yaml comes last: as
// long as its draft is there, the work is not done.
func finishFiles(dir string, right func(password string) bool) error {
	if dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, cloudsFile+draft))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read draft of %s: %w", cloudsFile, err)
	}
	var c cloudsYAML
	if err := yaml.Unmarshal(b, &c); err != nil || !right(c.Clouds[CloudName].Auth["password"]) {
		dropDrafts(dir)
		return nil
	}
	for _, name := range []string{openrcFile, cloudsFile} {
		path := filepath.Join(dir, name)
		if err := os.Rename(path+draft, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return syncDir(dir)
}

func dropDrafts(dir string) {
	if dir == "" {
		return
	}
	for _, name := range []string{openrcFile, cloudsFile} {
		_ = os.Remove(filepath.Join(dir, name+draft)) // absent is as good
	}
}

// writeSynced makes a file that only its owner can read and that survives a power cut.  An older file of the name is replaced, so
// that neither its mode nor a link in its place matters.
func writeSynced(path string, b []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// shellQuote makes a word that any POSIX shell reads back as it was.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
