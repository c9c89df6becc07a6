package netns

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// WatchDeleted calls deleted whenever a named namespace loses its name, until ctx ends (nil) or the watch cannot go on: there is no
// directory yet (fs.ErrNotExist), or it has gone.  Several deletions may make one call.
func WatchDeleted(ctx context.Context, deleted func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", Dir, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() }) // ends Read
	defer func() {
		if stop() {
			_ = f.Close()
		}
	}()
	if _, err := unix.InotifyAddWatch(fd, Dir, unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR); err != nil {
		return fmt.Errorf("watch %s: %w", Dir, err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", Dir, err)
		}
		gone := ended(buf[:n])
		deleted()
		if gone {
			return fmt.Errorf("watch %s: %w", Dir, os.ErrNotExist)
		}
	}
}

// ended reports that the watch itself has ended.  Events are those of inotify(7): four 32-bit numbers and a name of the length that
// the last one gives.
func ended(b []byte) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(b[4:])
		if mask&(unix.IN_IGNORED|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0 {
			return true
		}
		size := uint64(unix.SizeofInotifyEvent) + uint64(binary.NativeEndian.Uint32(b[12:]))
		if size > uint64(len(b)) {
			return false
		}
		b = b[size:]
	}
	return false
}
