package store

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Where things stand in etcd; see the package comment.  All of it lies between rangeFrom and rangeEnd, so that one range reads it
// and one watch follows it.
const (
	rowPrefix    = "/baryon/"
	uniquePrefix = "/baryon-unique/"
	uniqueEnd    = "/baryon-unique0" // behind all of them
	guardPrefix  = "/baryon-guard/"
	formatKey    = "/baryon-format"
	rangeFrom    = "/baryon-"
	rangeEnd     = "/baryon0" // '0' follows '/'
)

// formatVersion is the layout that this code reads and writes.  It grows when a layout comes that older code would misread.
const formatVersion = 1

// maxKeyLen bounds a row's key and an index's value, in bytes.  It keeps a mistake (a whole document as a name) out of etcd's
// in-memory key index.
const maxKeyLen = 2048

func rowKey(table, key string) string { return rowPrefix + table + "/" + key }

func uniqueKey(table, index, value string) string {
	return uniquePrefix + table + "/" + index + "/" + value
}

// guardKey names the guard of the rows that stand under one value of an index.  The guard of a whole table has an empty index.
func guardKey(table, index, value string) string {
	return guardPrefix + table + "/" + index + "/" + value
}

// splitRowKey undoes rowKey; ok is false for a key that is no row's.
func splitRowKey(k string) (table, key string, ok bool) {
	rest, ok := strings.CutPrefix(k, rowPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// splitGuardKey undoes guardKey.
func splitGuardKey(k string) (table, index, value string, ok bool) {
	rest, ok := strings.CutPrefix(k, guardPrefix)
	if !ok {
		return "", "", "", false
	}
	table, rest, ok = strings.Cut(rest, "/")
	if !ok {
		return "", "", "", false
	}
	index, value, ok = strings.Cut(rest, "/")
	return table, index, value, ok
}

// checkKey refuses what cannot be part of a key: JSON would not give back bytes that are no UTF-8.
func checkKey(what, v string) error {
	switch {
	case len(v) > maxKeyLen:
		return fmt.Errorf("%s of %d bytes is longer than %d", what, len(v), maxKeyLen)
	case !utf8.ValidString(v):
		return fmt.Errorf("%s %q is not UTF-8", what, v)
	}
	return nil
}
