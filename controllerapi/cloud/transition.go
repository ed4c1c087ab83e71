package cloud

import api "github.com/ankacluster/ankacluster/controllerapi"

//	            +--------------------- returned ---------------------+
//	            v                                                    |
//	(none) -> Scheduling <-> Pulling --------> Started <-> Stopped   |
//	            |   |           |   |           |  ^ \       ^       |
//	            |   +-----------|---+-> Error <-+  |  Stopping       |
//	            |               |         ^        |                 |
//	            |               |         +---- Pushing              |
//	            +-------+-------+---------+--------+ DELETE
//	                    v
//	               Terminating -> Terminated -> (gone)
//
// transitions holds every change of state that may be written. Staying is
// always allowed. Nothing leads out of Terminating but Terminated.
var transitions = map[api.InstanceState][]api.InstanceState{
	api.Scheduling:  {api.Pulling, api.Started, api.Error, api.Terminating},
	api.Pulling:     {api.Scheduling, api.Started, api.Error, api.Terminating},
	api.Started:     {api.Stopping, api.Stopped, api.Pushing, api.Error, api.Terminating},
	api.Stopping:    {api.Stopped, api.Started, api.Error, api.Terminating},
	api.Stopped:     {api.Started, api.Pushing, api.Error, api.Terminating},
	api.Pushing:     {api.Started, api.Stopped, api.Error, api.Terminating},
	api.Error:       {api.Terminating},
	api.Terminating: {api.Terminated},
	api.Terminated:  {},
}

// mayBecome reports whether an instance in state from may be written as to.
func mayBecome(from, to api.InstanceState) bool {
	if from == to {
		return true
	}
	for _, s := range transitions[from] {
		if s == to {
			return true
		}
	}
	return false
}
