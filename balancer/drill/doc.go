// Package drill breaks things on purpose and measures what a caller notices.
//
// A drill starts fake controllers and registries as processes of their own,
// puts something that balances in front of them (package balancer, a plain
// rotating client, or somebody else's load balancer by its URL), sends a steady
// load through it, breaks one or more of the fakes, heals them again, and
// judges what the callers saw against the promises of docs/balancing-comparison.md.
//
//	load (open loop) -> door (what balances) -> fake a, b, c -> memory
//
// How it measures:
//
//   - The load is open: request n is due at start + n/rate whether or not the
//     earlier ones have been answered, and its latency counts from when it was
//     due. A stall therefore shows in every request that it delayed.
//   - Two clients send at the same time, each at the full rate, each half GET
//     and half POST. The POSTs of one carry an Idempotency-Key, those of the
//     other do not. Each has a door of its own, so neither learns from the other.
//   - The fakes share one memory, a process that stands for etcd: a write with a
//     key that it has seen is answered from memory and runs once. What ran, and
//     how often, is counted there and not by the callers.
//   - While the machine stands still, so does everything that is measured. The
//     drill notes when it was due and did not get the processor: that time is
//     taken from every latency, gap and wait that it falls into, and a request
//     that failed in it is void. Nothing excuses a write that ran twice, an
//     acknowledged one that is lost, or a changed byte. No scenario is held twice.
//   - A fake does the work of a POST first and then is slow, or resets: the
//     worst case for whoever repeats a write.
//
// The fakes are this same binary, started again with the hidden command
// [FakeCommand]; they end when their standard input does, so that a drill that
// is killed leaves nothing behind.
package drill
