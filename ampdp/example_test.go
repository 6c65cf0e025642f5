package ampdp_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// Ask what is to become of a mail that lies in a file, and what to change in it.
func ExampleClient_Do() {
	socket, stop := pretendAmavisd()
	defer stop()

	client := &ampdp.Client{Network: "unix", Address: socket, Timeout: 5 * time.Minute}
	reply, err := client.Do(context.Background(), &ampdp.Request{
		QueueID:       "3Qx1",
		ClientAddress: "192.0.2.1",
		Sender:        "<ann@example.com>",
		Recipients:    []string{"<bob@example.net>"},
		TempDir:       "/var/lib/amavis/tmp/amavis-milter-3Qx1", // the mail is email.txt in it
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reply.ReturnValue)
	for _, edit := range reply.Edits {
		switch e := edit.(type) {
		case ampdp.AddHeader:
			fmt.Printf("add %s: %s\n", e.Name, e.Value)
		case ampdp.AddRecipient:
			fmt.Println("add", e.Address)
		case ampdp.DeleteRecipient:
			fmt.Println("delete", e.Address)
		}
	}
	// Output:
	// continue
	// delete <bob@example.net>
	// add <bob+spam@example.net>
	// add X-Spam-Flag: YES
}

// The cause of an error says what can be done about it.
func ExampleError() {
	client := &ampdp.Client{Network: "unix", Address: "/nonexistent/amavisd.sock"}
	_, err := client.Do(context.Background(), &ampdp.Request{
		Sender: "<>", Recipients: []string{"<bob@example.net>"}, TempDir: "/var/lib/amavis/tmp/amavis-milter-3Qx1",
	})
	if e, ok := errors.AsType[*ampdp.Error](err); ok {
		fmt.Println(e.Cause, "- connect refused:", e.Refused, "- may have been acted upon:", e.RequestSent)
	}
	// Output: unavailable - connect refused: true - may have been acted upon: false
}

func pretendAmavisd() (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "ampdp-example-")
	if err != nil {
		panic(err)
	}
	server, err := ampdptest.Listen("unix", filepath.Join(dir, "amavisd.sock"), ampdptest.Continue(
		"delrcpt=<bob@example.net>", "addrcpt=<bob+spam@example.net>", "addheader=X-Spam-Flag YES",
	))
	if err != nil {
		panic(err)
	}
	return server.Address(), func() {
		server.Close()
		os.RemoveAll(dir)
	}
}
