package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
)

// RunSMTP starts a program that speaks SMTP over its standard input and output, and
// takes its greeting. The program ends with the session.
func RunSMTP(program string, args ...string) (*Client, Reply, error) {
	cmd := exec.Command(program, args...)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return nil, Reply{}, fmt.Errorf("starting %s: %w", program, err)
	}
	conn, ours := net.Pipe()
	go func() {
		io.Copy(in, ours)
		in.Close()
	}()
	go func() {
		io.Copy(ours, out)
		ours.Close()
		cmd.Wait()
	}()
	c := &Client{conn: conn, in: bufio.NewReader(conn)}
	greeting, err := c.ReadReply()
	if err != nil {
		conn.Close()
		return nil, Reply{}, fmt.Errorf("reading the greeting of %s: %w", program, err)
	}
	return c, greeting, nil
}
