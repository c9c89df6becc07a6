// Package store keeps Baryon's state: typed tables in memory over etcd.
//
// etcd is the only source of truth and of order.  Every Update is one etcd transaction; its revision is etcd's.  Reads come from a
// replica in this process: an immutable, indexed snapshot per revision, which one goroutine builds from one read of everything and
// the watch that follows it.  Nothing else changes the replica, not even the process's own writes.
//
//	Update ── f(snapshot) ── conditions + writes ──> etcd ── watch ──> replica ──> Snapshot, View, Watch
//
// # Layout in etcd
//
//	/baryon/<table>/<key>                      the row, as JSON
//	/baryon-unique/<table>/<index>/<value>     key of the row that holds the value
//	/baryon-guard/<table>/<index>/<value>      guard of the rows under a value of an index; empty
//	/baryon-guard/<table>//                    guard of a whole table
//	/baryon-format                             version of this layout
//
// Keys and values may themselves contain slashes.  "etcdctl get --prefix /baryon/port/" shows all ports.  Nobody but this package
// may write there: a row without its unique keys breaks what they hold.
//
// # What a transaction guarantees
//
// Updates are serializable, and with what the caller saw acknowledged before (on any server) they are linearizable.  A commit
// demands of etcd, atomically with its writes:
//
//   - each row that was read by Get, or is written, has the revision it had in the snapshot, or is absent as it was;
//   - each unique value that the transaction takes is free, or held by a row that gives it up in the same transaction;
//   - each set that was read by Find or All is as it was: nothing inserted, changed or removed.
//
// Sets are guarded by guard keys, and only those sets that somebody reads in a transaction have one.  Who reads a set first
// creates its guard and runs again; from then on every writer of a row in that set also writes the guard, blindly, so that
// writers do not conflict with each other but do conflict with a reader, who demands the guard unchanged.  While a set has no
// guard, its writers demand that there still be none.  So ports created on one network commit side by side, and the deletion of
// that network, which reads the network's ports, cannot slip between them.  Count is not guarded, unless by Guard.
//
// A conflict never leaves Update: it waits for the replica to reach the revision that it lost against and runs f again.  After
// a few conflicts the transaction is let through alone (within its server), so a long one does get its turn.
//
// A value that must be unique and is taken is reported as UniqueError only if f ran on a snapshot that already showed it taken,
// so a function that picks free values by looking at the snapshot is simply run again when another writer was faster.
//
// # Failure
//
// With an external cluster the commit's answer may be lost with the connection; Update then returns ErrUnknown instead of guessing.
// A watch that is lost or falls behind etcd's compaction is replaced by a complete read; watchers get the difference as one batch.
// A store that meets data of a newer format stops serving.  The embedded etcd fsyncs before it acknowledges, listens on no socket,
// and ends the process when its disk fails.
//
// Rows are kept as their JSON says: what a row's JSON leaves out (fields tagged "-") is empty in what is read back, on every server.
package store
