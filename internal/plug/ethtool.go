package plug

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ethtoolSTXCSum is ETHTOOL_STXCSUM of linux/ethtool.h: switch transmit checksum offload.
const ethtoolSTXCSum = 0x17

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ cmd, data uint32 }

// ifreqData is struct ifreq of linux/if.h with its pointer member.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // the union's largest member is 24 bytes
}

// txChecksumOff makes the kernel fill in checksums of what it sends over a device of the namespace.
func txChecksumOff(ns netns.NsHandle, dev string) error {
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine and with it the namespace it was switched to.
		runtime.LockOSThread()
		done <- func() error {
			if err := netns.Set(ns); err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd) //nolint:errcheck // a socket without data
			v := ethtoolValue{cmd: ethtoolSTXCSum}
			req := ifreqData{data: unsafe.Pointer(&v)}
			copy(req.name[:unix.IFNAMSIZ-1], dev)
			if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); e != 0 {
				if errors.Is(e, unix.EOPNOTSUPP) {
					return nil // a device without the offload
				}
				return e
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("switch transmit checksum offload of %s off: %w", dev, err)
	}
	return nil
}
