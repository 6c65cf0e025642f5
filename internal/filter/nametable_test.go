package filter

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// A table against a map, through all its sizes, with names of every length around
// that of a piece, and such as differ only where one ends.
func TestNameTable(t *testing.T) {
	var table nameTable
	want := map[string]uint32{}
	check := func(name string) {
		t.Helper()
		e := table.find(name)
		if n := want[asciiLower(name)]; (e == nil) != (n == 0) || e != nil && e.count != n {
			t.Fatalf("%.80q: %+v, want %d", name, e, n)
		}
	}
	count := func(name string) {
		check(name)
		hash := hashName(name)
		e := table.findHash(name, hash)
		if e == nil {
			e = table.insert(name, hash)
		}
		e.count++
		want[asciiLower(name)]++
		check(name)
	}
	count("")
	for n := range 4*namePiece + 2 {
		count(strings.Repeat("n", n) + "X")
		count(strings.Repeat("N", n) + "x")
		count(strings.Repeat("n", n) + "Y")
		check(strings.Repeat("n", n) + "Z")
	}
	for i := range MaxHeaderFields {
		count(fmt.Sprintf("X-Field-%d", i))
		check(fmt.Sprintf("x-fielD-%d", i))
		check(fmt.Sprintf("X-Field-%d.", i))
	}
	if len(table.entries) != len(want) {
		t.Errorf("%d entries, want %d", len(table.entries), len(want))
	}
	for i := range table.entries {
		if e := table.entries[i]; e.count != want[asciiLower(e.name)] {
			t.Errorf("%.80q: %d", e.name, e.count)
		}
	}
}

// Two names of the same hash are two names: there are only four billion hashes.
func TestNameTableSameHash(t *testing.T) {
	var table nameTable
	for i := range uint32(100) {
		table.insert(fmt.Sprint("name", i), 7).count = i
	}
	for i := range uint32(100) {
		if e := table.findHash(fmt.Sprint("NAME", i), 7); e == nil || e.count != i {
			t.Errorf("number %d: %+v", i, e)
		}
	}
	if e := table.findHash("name100", 7); e != nil {
		t.Errorf("found %+v", e)
	}
}

// Names compare byte by byte, and only ASCII letters have two cases.
func TestEqualNames(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			x, y := "n"+string([]byte{byte(a)}), "N"+string([]byte{byte(b)})
			want := asciiLower(x) == asciiLower(y)
			if equalNames(x, y) != want || want && hashName(x) != hashName(y) {
				t.Errorf("%q and %q: equal %v, hashes %x and %x", x, y, equalNames(x, y), hashName(x), hashName(y))
			}
		}
	}
	if equalNames("a", "aa") || equalNames("aa", "a") {
		t.Error("a name equals a longer one")
	}
}

// What the names of a message are counted for is what they take in memory, or more.
// The buffer of which they were a part does not stay.
func TestNamesTakeWhatIsCounted(t *testing.T) {
	const messages = 4
	for _, length := range []int{6, 20, nameText / 2, nameText/2 + 1, nameText, nameText + 1} {
		for _, names := range []int{40, 257, 1025, MaxHeaderFields} {
			if names*length > 1<<20 {
				continue
			}
			t.Run(fmt.Sprintf("%d of %d bytes", names, length), func(t *testing.T) {
				held := make([]headerFields, messages)
				before := heap()
				for m := range held {
					for i := range names {
						buffer := fmt.Sprintf("%0*d%4000d", length, i, 0)
						if err := held[m].add(buffer[:length], ""); err != nil {
							t.Fatal(err)
						}
					}
				}
				took := int64(heap()-before) / messages
				if counted := held[0].names; took > counted {
					t.Errorf("%d bytes are counted, %d are held: %d instead of %d for each name beside its bytes twice", counted, took, (took-counted)/int64(names)+nameCost, nameCost)
				}
				runtime.KeepAlive(held)
			})
		}
	}
}

// heap returns the bytes in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
