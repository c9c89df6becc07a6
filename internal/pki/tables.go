package pki

import "baryon/internal/resource"

// Tables lists every table of this package, for the store.
func Tables() []resource.AnyTable {
	return []resource.AnyTable{CATable, TokenTable, CertificateTable}
}
