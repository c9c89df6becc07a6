package netfilter

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// runTimeout bounds one run of a program.
const runTimeout = 30 * time.Second

// read runs a program and returns what it printed.
func read(ctx context.Context, program string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, program)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", complained(program, err, &complaint)
	}
	return out.String(), nil
}

func complained(program string, err error, complaint *bytes.Buffer) error {
	if text := strings.TrimSpace(complaint.String()); text != "" {
		return fmt.Errorf("%s (%w)", text, err)
	}
	return fmt.Errorf("run %s: %w", program, err)
}

// doneMark is a comment after the last line of what iptables-restore reads.  Told to be verbose it repeats comments, and what it has
// written takes effect before it reads on.  The empty line has it pass on what it has printed.
const doneMark = "# all done\n\n"

// feed runs a restore with an input and returns when all of it has taken effect.  The program's own end may be later by tens of
// milliseconds, in which the kernel frees the rules that were removed; nobody needs to wait for that.  One that repeats no comments is
// waited for to its end.
func feed(ctx context.Context, program string, args []string, stdin string) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin + doneMark)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return fmt.Errorf("run %s: %w", program, err)
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if line+"\n" == doneMark {
			go func() {
				defer cancel()
				_, _ = io.Copy(io.Discard, lines) // nothing of interest, but it must not wait for a reader
				_ = cmd.Wait()                    // all that was asked for is done
			}()
			return nil
		}
		if err != nil {
			break
		}
	}
	defer cancel()
	if err := cmd.Wait(); err != nil {
		return complained(program, err, &complaint)
	}
	return nil
}
