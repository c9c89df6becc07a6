package server

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"baryon/internal/identity"
)

// computePath is where the catalog's service "no-compute" leads.
const computePath = "/compute/v2.1"

// noCompute answers for the compute service that this cloud does not have.
//
// The commands "openstack quota show" and "quota set" look a compute service up before they do anything, also when only quotas of the
// network are asked for, and give up without one (python-openstackclient up to 6.2).  So the catalog of a standalone cloud names this
// one.  It says the truth in Nova's form: there are no compute quotas to show, none can be set, and nothing else is here.
type noCompute struct {
	url  string // public URL of it
	auth identity.Authenticator
}

// maxQuotaBody bounds a quota's body in bytes.
const maxQuotaBody = 16 << 10

func (n *noCompute) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, computePath), "/"), "/")
	if path[0] == "" { // clients read it to find out how to ask, without a token
		sendJSON(w, http.StatusOK, map[string]any{"version": map[string]any{
			"id": "v2.1", "status": "CURRENT", "version": "", "min_version": "", "updated": "2013-07-23T11:33:21Z",
			"links": []any{map[string]any{"rel": "self", "href": n.url + "/"}},
		}})
		return
	}
	if _, err := n.auth.Authenticate(r.Context(), r); err != nil {
		var denied *identity.UnauthorizedError
		if !errors.As(err, &denied) {
			refuse(w, http.StatusServiceUnavailable, "serviceUnavailable", "The identity service does not answer.")
			return
		}
		w.Header().Set("Www-Authenticate", denied.Challenge())
		refuse(w, http.StatusUnauthorized, "unauthorized", "The request you have made requires authentication.")
		return
	}
	n.answer(w, r, path)
}

// answer answers what is below computePath, cut into segments: os-quota-sets/{project}, the same with /defaults or /detail,
// os-quota-class-sets/{class}, servers and servers/detail.
func (n *noCompute) answer(w http.ResponseWriter, r *http.Request, path []string) {
	one := len(path) == 2
	part := len(path) == 3 && (path[2] == "defaults" || path[2] == "detail")
	read, sets := r.Method == http.MethodGet, path[0] == "os-quota-sets"
	servers := path[0] == "servers" && (len(path) == 1 || one && path[1] == "detail")
	none := func(envelope string) {
		sendJSON(w, http.StatusOK, map[string]any{envelope: map[string]any{"id": path[1]}})
	}
	switch {
	case sets && read && (one || part):
		none("quota_set")
	case path[0] == "os-quota-class-sets" && read && one:
		none("quota_class_set")
	case sets && r.Method == http.MethodPut && one:
		if fault := limitsIn(http.MaxBytesReader(w, r.Body, maxQuotaBody)); fault != "" {
			refuse(w, http.StatusBadRequest, "badRequest", fault)
			return
		}
		none("quota_set")
	case sets && r.Method == http.MethodDelete && one:
		w.WriteHeader(http.StatusAccepted)
	case servers && read: // what cleans a project up asks for them
		sendJSON(w, http.StatusOK, map[string]any{"servers": []any{}})
	default:
		refuse(w, http.StatusNotFound, "itemNotFound", "This cloud has no compute service.")
	}
}

// limitsIn tells what is wrong with a change of quotas: any limit in it; empty if it sets none.
func limitsIn(body io.Reader) (fault string) {
	var in struct {
		Set map[string]any `json:"quota_set"`
	}
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return "The body is no JSON object with quota_set."
	}
	var limits []string
	for name := range in.Set {
		if name != "force" && name != "tenant_id" {
			limits = append(limits, name[:min(len(name), 64)])
		}
	}
	if limits == nil {
		return ""
	}
	slices.Sort(limits)
	return "This cloud has no compute service: it keeps no quota of " + strings.Join(limits, ", ") + "."
}

// refuse answers an error in Nova's form.
func refuse(w http.ResponseWriter, code int, kind, message string) {
	sendJSON(w, code, map[string]any{kind: map[string]any{"code": code, "message": message}})
}

func sendJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
