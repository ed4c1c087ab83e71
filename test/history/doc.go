// Package history records what clients and nodes saw of a build cloud and checks
// with porcupine that it could have happened in some order, one step at a time:
// that the cloud, however many controllers and etcd members it is made of and
// whichever of them died, behaved like one.
//
//	rec := history.NewRecorder()
//	call := rec.Now()
//	ids, err := client.Start(ctx, req)
//	rec.Create(key, call, ids, err)
//	...
//	problems := rec.Check(time.Minute)
//
// # What is checked
//
// Keys: every answer to a create with one idempotency key names the same
// instances, no two keys name the same one, and no list shows an instance of a
// key that no answer names.
//
// Instances: one is there from the moment its creation is acknowledged until it
// is terminated, for every reader at every controller; it is Started only by a
// report that was accepted; only the holder of the newest claim has a report
// accepted; nothing is claimed or Started after a termination is acknowledged;
// states do not go back, and what is gone stays gone.
//
// A call whose answer was lost may have happened, at any time after it was sent,
// or never.
//
// A Recorder is safe for concurrent use.
package history
