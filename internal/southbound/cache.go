package southbound

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"baryon/internal/nodestate"
	pb "baryon/proto/baryon/v1"
)

// cache is the node's last known state on disk: a journal of Updates behind a header line that says whose it is.  A change is
// appended; when the journal has grown far beyond what it holds, it is written anew beside and renamed, so at any moment a crash
// leaves a state that was once true.  Each Update stands as length and CRC-32C, four bytes each, big endian, then the message.
//
// It is used by one goroutine.
type cache struct {
	path   string
	header string
	f      *os.File // nil: the next write makes the file anew
	size   int64    // of the file
	base   int64    // of the file when it was last made anew
}

// Form and bounds of the journal.
const (
	cacheName     = "southbound.cache"
	cacheVersion  = 1
	cacheFileMode = 0o600    // instance data may hold secrets
	maxFrame      = 64 << 20 // bytes; a longer one is no frame
	maxCache      = 1 << 30  // bytes; a longer file is not ours
	cacheSlack    = 1 << 20  // bytes that the journal may grow beyond cacheGrowth times its base
	cacheGrowth   = 3        // times
	maxHeader     = 1024     // bytes
	frameHeader   = 4 + 4    // length, checksum
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// held is a record as the node holds it.
type held struct {
	key   nodestate.Key
	hash  uint64 // nodestate.HashContent
	bytes []byte
}

func newCache(dir, host, authority string) *cache {
	return &cache{
		path:   filepath.Join(dir, cacheName),
		header: fmt.Sprintf("baryon southbound cache %d %s %s\n", cacheVersion, host, authority),
	}
}

// load reads the last state.  A journal that is cut or damaged counts up to there; one of another version, host or authority does
// not count at all.  The error says what was wrong and leaves whatever could be read.
func (c *cache) load() (map[uint64]held, int64, error) {
	records := make(map[uint64]held)
	f, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return records, 0, nil
	}
	if err != nil {
		return records, 0, fmt.Errorf("read cache: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxCache {
		return records, 0, fmt.Errorf("read cache %s: not a cache", c.path)
	}
	revision, err := readCache(bufio.NewReaderSize(f, 64<<10), c.header, records)
	if err != nil {
		return records, revision, fmt.Errorf("read cache %s: %w", c.path, err)
	}
	return records, revision, nil
}

// readCache fills records from a journal and answers the revision it reaches.
func readCache(r *bufio.Reader, header string, records map[uint64]held) (revision int64, err error) {
	line := make([]byte, len(header))
	if _, err := io.ReadFull(r, line); err != nil || string(line) != header {
		return 0, errors.New("of another version, host or authority, or cut at the start")
	}
	var group []*pb.Update // one change, not applied before it is whole
	for {
		u, err := readFrame(r)
		if err == io.EOF && len(group) == 0 {
			return revision, nil
		}
		if err != nil {
			return revision, fmt.Errorf("cut or damaged behind revision %d: %w", revision, err)
		}
		group = append(group, u)
		if u.GetMore() {
			continue
		}
		for _, u := range group {
			for _, h := range u.GetDeletes() {
				delete(records, h)
			}
			for _, b := range u.GetUpserts() {
				rec, err := Decode(b)
				if err != nil {
					return revision, fmt.Errorf("record behind revision %d: %w", revision, err)
				}
				records[nodestate.HashKey(rec.Key())] = held{key: rec.Key(), hash: nodestate.HashContent(b), bytes: b}
			}
		}
		group, revision = group[:0], u.GetRevision()
	}
}

func readFrame(r *bufio.Reader) (*pb.Update, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	// Grown as it is read, so that a wrong length does not cost memory that the file does not have.
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(b) != int(n) {
		return nil, io.ErrUnexpectedEOF
	}
	if crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errors.New("checksum does not match")
	}
	u := &pb.Update{}
	if err := proto.Unmarshal(b, u); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return u, nil
}

// due tells whether the journal should be written anew instead of appended to.
func (c *cache) due() bool {
	return c.f == nil || c.size > cacheGrowth*c.base+cacheSlack
}

// append adds a change and waits for the disk.  After an error the next write must be rewrite.
func (c *cache) append(updates []*pb.Update) error {
	b, err := frames(nil, updates)
	if err == nil {
		_, err = c.f.Write(b)
	}
	if err == nil {
		err = c.f.Sync()
	}
	if err != nil {
		c.drop()
		return fmt.Errorf("append to cache: %w", err)
	}
	c.size += int64(len(b))
	return nil
}

// rewrite replaces the journal by one complete state and waits for the disk.
func (c *cache) rewrite(updates []*pb.Update) (err error) {
	c.drop()
	b, err := frames([]byte(c.header), updates)
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	temp := c.path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, cacheFileMode)
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temp, c.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(c.path))
	}
	if err != nil {
		return fmt.Errorf("write cache: %w", errors.Join(err, f.Close()))
	}
	c.f, c.size, c.base = f, int64(len(b)), int64(len(b))
	return nil
}

// drop lets go of the file, which stays as it is.
func (c *cache) drop() {
	if c.f != nil {
		_ = c.f.Close() // everything that counts has been synced
		c.f = nil
	}
}

func frames(b []byte, updates []*pb.Update) ([]byte, error) {
	for _, u := range updates {
		at := len(b)
		b = append(b, make([]byte, frameHeader)...)
		var err error
		if b, err = (proto.MarshalOptions{}).MarshalAppend(b, u); err != nil {
			return nil, err
		}
		payload := b[at+frameHeader:]
		binary.BigEndian.PutUint32(b[at:], uint32(len(payload)))
		binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(payload, castagnoli))
	}
	return b, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
