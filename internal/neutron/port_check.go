package neutron

import (
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/model"
)

// maxAddressPairs is Neutron's max_allowed_address_pair.
const maxAddressPairs = 10

// checkPairs completes and checks a port's allowed address pairs: a pair without MAC has the port's.
func checkPairs(p *model.Port) error {
	if len(p.AllowedAddressPairs) == 0 {
		return nil
	}
	if len(p.AllowedAddressPairs) > maxAddressPairs {
		return BadRequest("AllowedAddressPairExhausted", "The number of allowed address pair exceeds the maximum %d.", maxAddressPairs)
	}
	if !p.PortSecurityEnabled {
		return Conflict("AddressPairAndPortSecurityRequired",
			"Port Security must be enabled in order to have allowed address pairs on a port.")
	}
	pairs := slices.Clone(p.AllowedAddressPairs)
	for i := range pairs {
		if pairs[i].MAC.IsZero() {
			pairs[i].MAC = p.MAC
		}
		if slices.Contains(pairs[:i], pairs[i]) {
			return BadRequest("DuplicateAddressPairInRequest",
				"Request contains duplicate address pair: mac_address %s ip_address %s.", pairs[i].MAC, pairText(pairs[i].IPAddress))
		}
	}
	p.AllowedAddressPairs = pairs
	return nil
}

// pairText prints a single address without its length.
func pairText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// mergeDHCPOpts applies the options of an update, which name options by name and IP version: a null value deletes, another sets.
func mergeDHCPOpts(old, change []model.ExtraDHCPOpt) []model.ExtraDHCPOpt {
	out := slices.Clone(old)
	for _, c := range change {
		if c.IPVersion == 0 {
			c.IPVersion = 4
		}
		i := slices.IndexFunc(out, func(o model.ExtraDHCPOpt) bool { return o.Name == c.Name && o.IPVersion == c.IPVersion })
		switch {
		case c.Remove && i >= 0:
			out = slices.Delete(out, i, i+1)
		case c.Remove:
		case i >= 0:
			out[i] = c
		default:
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// defaultDNSDomain is the dns_domain at which Neutron's DNS integration is off.
const defaultDNSDomain = "openstacklocal"

// dnsIntegration tells whether ports have names of their own.
func (s *Service) dnsIntegration() bool {
	return s.cfg.DNSDomain != defaultDNSDomain && s.cfg.DNSDomain != ""
}

// dnsName checks a port's dns_name.  With DNS integration off it is dropped, as in Neutron.
func (s *Service) dnsName(name string) (string, error) {
	name = strings.ToLower(name)
	if name == "" || !s.dnsIntegration() {
		return "", nil
	}
	if host, full := strings.CutSuffix(name, "."); full {
		if !strings.HasSuffix(host, "."+s.cfg.DNSDomain) {
			return "", InvalidInput("The dns_name passed is a FQDN. Its higher level labels must be equal to the dns_domain option in "+
				"neutron.conf, %s", s.cfg.DNSDomain)
		}
		return name, nil
	}
	const maxName = 255
	if len(name)+len(s.cfg.DNSDomain)+2 > maxName {
		return "", InvalidInput("The dns_name passed is a PQDN and its size is bigger than %d, what remains beside the domain %s",
			maxName-len(s.cfg.DNSDomain)-2, s.cfg.DNSDomain)
	}
	return name, nil
}

// dnsAssignment lists the names that DNS answers for a port: its dns_name, or a name made of each address.
func (s *Service) dnsAssignment(p *model.Port) []model.DNSAssignment {
	out := make([]model.DNSAssignment, len(p.FixedIPs))
	for i, f := range p.FixedIPs {
		host := p.DNSName
		if host == "" || !s.dnsIntegration() {
			host = hostName(f.IPAddress)
		}
		fqdn := host + "." + s.cfg.DNSDomain + "."
		if full, ok := strings.CutSuffix(host, "."+s.cfg.DNSDomain+"."); ok {
			fqdn, host = host, full
		}
		out[i] = model.DNSAssignment{IPAddress: f.IPAddress, Hostname: host, FQDN: fqdn}
	}
	return out
}

// hostName makes "host-10-0-0-5" of an address.
func hostName(a netip.Addr) string {
	b := []byte("host-" + a.String())
	for i, c := range b {
		if c == '.' || c == ':' {
			b[i] = '-'
		}
	}
	return string(b)
}
