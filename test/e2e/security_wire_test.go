package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The security tests speak Ethernet themselves, so that every bit of a packet is theirs: in each guest runs a wire, which is this
// test binary again.  It sends the frames it is given and tells which tokens it sees arrive.

// wireDevice is the environment variable that makes this binary a wire; it names the device.
const wireDevice = "BARYON_TEST_WIRE"

// magic and a number of four bytes, somewhere in a frame, are a token.
var magic = []byte{0xb4, 0x7e, 0x59, 0x0e}

// tokenBytes is what a frame carries to be recognised.
func tokenBytes(token uint32) []byte { return binary.BigEndian.AppendUint32(bytes.Clone(magic), token) }

// tokensOf finds all tokens of a frame: a firewall may put fragments together.
func tokensOf(frame []byte) []uint32 {
	var out []uint32
	for {
		i := bytes.Index(frame, magic)
		if i < 0 || len(frame) < i+8 {
			return out
		}
		out = append(out, binary.BigEndian.Uint32(frame[i+4:]))
		frame = frame[i+8:]
	}
}

// runWire is the process in the guest: a line of hexadecimal on standard input is a frame to send, a line on standard output is a
// token that has arrived.  It ends with its standard input.
func runWire(device string, in io.Reader, out io.Writer) error {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
		return fmt.Errorf("bind packet socket to %s: %w", device, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		return fmt.Errorf("enlarge receive buffer: %w", err)
	}
	fmt.Fprintln(out, "ready")
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "receive:", err)
				os.Exit(1)
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			for _, token := range tokensOf(buf[:n]) {
				fmt.Fprintln(out, token)
			}
		}
	}()
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 1<<17)
	for sc.Scan() {
		frame, err := hex.DecodeString(sc.Text())
		if err != nil {
			return err
		}
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return sc.Err()
}

// wire is a guest's wire as the test holds it.
type wire struct {
	cmd   *exec.Cmd
	stdin *bufio.Writer
	pipe  io.WriteCloser
	errs  bytes.Buffer

	mu   sync.Mutex
	seen map[uint32]int
	news chan struct{} // closed and replaced when something arrives
	end  error         // why the wire has ended
}

// wireIn starts a wire in a guest.
func (w *world) wireIn(guest string) *wire {
	w.t.Helper()
	exe, err := os.Executable()
	w.must(err)
	cmd, err := w.GuestCommand(w.t.Context(), guest, "env", wireDevice+"=eth0", exe)
	w.must(err)
	l, err := startWire(cmd)
	w.must(err)
	w.t.Cleanup(l.close)
	return l
}

// startWire starts a wire by its command.
func startWire(cmd *exec.Cmd) (*wire, error) {
	l := &wire{cmd: cmd, seen: map[uint32]int{}, news: make(chan struct{})}
	cmd.Stderr = &l.errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l.pipe, l.stdin = in, bufio.NewWriterSize(in, 1<<16)
	sc := bufio.NewScanner(out)
	if !sc.Scan() || sc.Text() != "ready" {
		err := cmd.Wait()
		return nil, fmt.Errorf("wire does not start: %w: %s", err, l.errs.String())
	}
	go l.read(sc)
	return l, nil
}

func (l *wire) read(sc *bufio.Scanner) {
	for sc.Scan() {
		var token uint32
		if _, err := fmt.Sscan(sc.Text(), &token); err != nil {
			continue
		}
		l.mu.Lock()
		l.seen[token]++
		close(l.news)
		l.news = make(chan struct{})
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.end = errors.New("the wire has ended")
	close(l.news)
	l.news = make(chan struct{})
	l.mu.Unlock()
}

func (l *wire) close() {
	_ = l.pipe.Close() // it ends by itself then
	if l.cmd.ProcessState == nil {
		time.AfterFunc(5*time.Second, func() { _ = l.cmd.Process.Signal(syscall.SIGKILL) })
		_ = l.cmd.Wait()
	}
}

// send hands frames over; flush sees to it that they go.
func (l *wire) send(frames ...[]byte) error {
	for _, f := range frames {
		if _, err := l.stdin.WriteString(hex.EncodeToString(f) + "\n"); err != nil {
			return err
		}
	}
	return l.stdin.Flush()
}

// arrived tells how often a token has arrived.
func (l *wire) arrived(token uint32) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[token]
}

// await waits until a token has arrived or the time is over.
func (l *wire) await(token uint32, limit time.Duration) bool {
	over := time.NewTimer(limit)
	defer over.Stop()
	for {
		l.mu.Lock()
		n, news, end := l.seen[token], l.news, l.end
		l.mu.Unlock()
		if n > 0 || end != nil {
			return n > 0
		}
		select {
		case <-news:
		case <-over.C:
			return false
		}
	}
}
