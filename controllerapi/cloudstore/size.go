package cloudstore

import (
	"context"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.uber.org/zap"
)

// learnSize keeps what an instance's VM takes as what those of its template do.
func (s *Store) learnSize(ctx context.Context, id api.InstanceID, vm *api.VMInfo) {
	var c *cloud.Change
	s.Read(func(v *cloud.View) { c = v.LearnSize(id, vm) })
	if c == nil {
		return
	}
	if _, err := s.commit(etcdkit.WithoutIdem(ctx), c); err != nil {
		s.log.Debug("size of a template not kept, the next VM tells it again", zap.Error(err))
	}
}

// ForgetSize drops what is known of a template that was deleted.
func (s *Store) ForgetSize(ctx context.Context, id api.TemplateID) {
	if s.size(id) == nil {
		return
	}
	c := new(cloud.Change)
	c.Delete(cloud.SizeRef(id))
	if _, err := s.commit(etcdkit.WithoutIdem(ctx), c); err != nil {
		s.log.Warn("size of a deleted template not forgotten", zap.String("template_id", string(id)), zap.Error(err))
	}
}

func (s *Store) size(id api.TemplateID) *cloud.TemplateSize {
	return record(s, func(v *cloud.View) map[api.TemplateID]*cloud.TemplateSize { return v.Sizes }, id)
}
