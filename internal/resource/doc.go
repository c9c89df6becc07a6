// Package resource is the kit a resource of the Networking API is defined with, once: its attributes with their kinds, access,
// defaults and filters.  From a Definition come the decoding and validation of request bodies, the encoding of rows, filters,
// sorting, paging and the generated API reference.
//
// Data flow: JSON body -> ParseCreate/ParseUpdate -> Input (typed, checked) -> rules (package neutron) -> row -> Encoder ->
// JSON.  Query string -> ParseQuery -> Query: which index to read, which rows match, in which order, which page.
//
// Invariants: a Definition is a declaration, built once in a package variable and never changed; everything here is pure and
// safe for concurrent use; no input makes it panic.  It knows no Neutron, no HTTP and imports the standard library only.
package resource
