package filter

import "github.com/amavis-milter/amavis-milter/ampdp"

const (
	// maxReplies is how many bytes amavisd's replies may take in memory for all
	// messages together, from their first byte until their edits have left for the MTA,
	// what each may hold in any case aside.
	maxReplies = 16 << 20

	// ownReply is how many bytes each reply may take whatever the others do: some
	// 300 edits. So a scanner that sends what no amavisd does takes nothing from the
	// mail of others.
	ownReply = 64 << 10
)

// withRoom returns a client like c whose replies are counted with those of others.
func withRoom(c *ampdp.Client, room *ampdp.Room) *ampdp.Client {
	counted := *c
	counted.Room = room
	return &counted
}
