package etcdstore

import api "github.com/ankacluster/ankacluster/controllerapi"

func (s *Store) event(kind string, facts map[string]any) {
	if s.OnEvent != nil {
		s.OnEvent(kind, facts)
	}
}

// instanceEvent tells of a change of state that this Store has committed.
func (s *Store) instanceEvent(before, after *Instance) {
	from, to := before.Public.InstanceState, after.Public.InstanceState
	if from == to {
		return
	}
	kind := ""
	switch {
	case to == api.Started && (from == api.Scheduling || from == api.Pulling):
		kind = api.EventVMStarted
	case to == api.Error && (from == api.Scheduling || from == api.Pulling):
		kind = api.EventVMFailedToStart
	case to == api.Terminated:
		kind = api.EventVMTerminated
	case from == api.Pulling && to == api.Scheduling && after.Claim != nil:
		kind = api.EventTemplatePulled
	default:
		return
	}
	facts := map[string]any{
		"instance_id": after.Public.InstanceID, "vmid": after.Public.VMID, "tag": after.Public.Tag,
		"node_id": after.Public.NodeID, "external_id": after.Public.ExternalID,
	}
	if after.Public.Message != "" {
		facts["message"] = after.Public.Message
	}
	s.event(kind, facts)
}
