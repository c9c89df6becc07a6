package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/resource"
)

// Reference is the API reference in Markdown, made from the definitions, the extension list and the routes of the services.  It is
// committed as docs/api.md; a test fails when that is stale.
func Reference(v Services) []byte {
	var b strings.Builder
	b.WriteString(`# Networking API v2.0: what Baryon serves

Generated from the definitions in ` + "`internal/model`" + `: do not edit, run ` + "`go test ./internal/api -run Reference -update`" + `.

Port 9696. A token in ` + "`X-Auth-Token`" + ` is needed for everything but the version documents ` + "`/`" + ` and ` + "`/v2.0/`" + `. Bodies are JSON; a ` + "`.json`" + ` suffix on
paths is accepted. Every answer carries ` + "`X-Openstack-Request-Id`" + `.

## Lists

* Filters: attributes marked F. A repeated parameter means any of the values, different parameters all of them. The empty value is a value.
* ` + "`fields`" + ` selects attributes. ` + "`sort_key`" + ` (marked S) and ` + "`sort_dir`" + ` (asc, desc) come in pairs; ties are broken by id.
* ` + "`limit`, `marker`, `page_reverse`" + ` read page by page; ` + "`<plural>_links`" + ` lead to the next and the previous page.
* Ports: ` + "`fixed_ips=ip_address=A`, `fixed_ips=subnet_id=S`, `fixed_ips=ip_address_substr=T`" + `, all about one and the same address of a port.

## Changes

* A create with the plural envelope makes all objects or none.
* ` + "`If-Match: revision_number=N`" + ` on PUT and DELETE: another revision answers 412.
* Errors: ` + "`{\"NeutronError\": {\"type\", \"message\", \"detail\"}}`" + `.

`)
	b.WriteString(`## Security groups

* A project's group ` + "`default`" + ` is made when it is first needed. New groups start with the rules of ` + "`default-security-group-rules`" + `: all out, and
  in the default group all in from its own members.
* A rule names at most one of ` + "`remote_ip_prefix`, `remote_group_id`, `remote_address_group_id`" + `. For ICMP, ` + "`port_range_min`" + ` is the type and
  ` + "`port_range_max`" + ` the code. Rules are made and deleted, not changed; a rule that says what another of its group says is refused.
* A port that names no groups gets the default group; ` + "`[]`" + ` means none, and then it has only what is always allowed. Groups need port
  security; those of one port are all stateful or all stateless. Ports of the network itself (` + "`network:`, `neutron:`" + `) are not filtered.
* A group that a port has cannot be deleted; rules that name a deleted group go with it. What a rule, a member or an address pair allowed
  ends with it, also for connections that exist.

`)
	b.WriteString("## Routes\n\n| path | methods |\n|---|---|\n| `/` | GET |\n| `/v2.0/` | GET |\n")
	routes := (&server{Config: Config{Services: v}}).table()
	slices.SortFunc(routes, func(x, y route) int { return cmp.Compare(x.pattern, y.pattern) })
	for _, rt := range routes {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(rt.pattern, "{}", "{id}"), rt.allow())
	}
	b.WriteString("\n## Extensions\n\n| alias | what it gives |\n|---|---|\n")
	for _, e := range extensions {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.alias, e.description)
	}
	b.WriteString("\n## Attributes\n\nC may be sent on create, U on update, V shown (O: to administrators and services only), F filter, S sort key.\n")
	for _, d := range model.Definitions() {
		describe(&b, d.Describe())
	}
	return []byte(b.String())
}

func describe(b *strings.Builder, d resource.Description) {
	fmt.Fprintf(b, "\n### %s (`%s`)\n\n| attribute | flags | default | values | set by | extension |\n|---|---|---|---|---|---|\n", d.Singular, d.Plural)
	for _, a := range d.Attributes {
		t := a.Traits
		name := "`" + a.Name + "`"
		if t.Alias != "" {
			name += ", `" + t.Alias + "`"
		}
		kind := a.Kind
		if t.Ref != "" {
			kind += " of a " + t.Ref
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", name, flags(t), fallback(t), kind, t.Policy, t.Extension)
	}
}

func flags(t resource.Traits) string {
	out := []byte("-----")
	for i, f := range []struct {
		on   bool
		flag byte
	}{{t.Post, 'C'}, {t.Put, 'U'}, {!t.Hidden, 'V'}, {t.Filter, 'F'}, {t.Sort, 'S'}} {
		if f.on {
			out[i] = f.flag
		}
	}
	if t.Operators {
		out[2] = 'O'
	}
	return string(out)
}

func fallback(t resource.Traits) string {
	switch {
	case t.Required:
		return "required"
	case t.HasDefault && t.Default == "":
		return `""`
	case t.HasDefault:
		return fmt.Sprint(t.Default)
	case t.Allocated:
		return "chosen"
	}
	return ""
}
