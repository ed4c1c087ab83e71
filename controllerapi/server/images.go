package server

import (
	"encoding/base64"
	"net/http"
	"slices"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/google/uuid"
)

// saveRequest is a save-image request as the API shows it.
type saveRequest struct {
	ID           string      `json:"id"`
	Status       string      `json:"status"`
	Error        *saveError  `json:"error"`
	ScriptResult *saveScript `json:"script_result"`
	Request      saveDetails `json:"request"`
}

type saveError struct {
	Message string
}

type saveScript struct {
	ReturnCode int      `json:"return_code"`
	Errors     []string `json:"errors"`
	DidTimeout bool     `json:"did_timeout"`
	Stdout     string   `json:"stdout"`
	Stderr     string   `json:"stderr"`
}

type saveDetails struct {
	//lint:ignore ST1003 the documented name on the wire
	RequestId              string
	Priority               int
	Timestamp              time.Time
	ReserveExpiryTimestamp time.Time
	RegistryAddr           string
	VMID                   string
	InstanceID             api.InstanceID
	NodeID                 api.NodeID
	TemplateID             api.TemplateID
	NewTemplateName        string
	Tag                    string
	Description            string
	Suspend                bool
	Script                 string
	DoSuspendTest          bool
	RevertBeforePush       bool
	RevertTag              string
	CancelOnScriptFailure  bool
}

func (s *Server) saveImage(r *http.Request) (any, error) {
	req, err := wire.Decode[api.SaveImageRequest](r)
	if err != nil {
		return nil, err
	}
	task := api.SaveImageTask{RequestID: uuid.NewString(), PushRegistries: s.cfg.PushRegistries}
	if err := s.checkSave(r, &req, &task); err != nil {
		return nil, err
	}
	if req.Suspend == nil {
		req.Suspend = new(true)
	}
	task.Request = req
	body := map[string]string{"request_id": task.RequestID}
	return body, s.store.SaveImage(r.Context(), req.ID, task, body)
}

// checkSave checks every reference before anything is changed, and fills in what
// is pushed to.
func (s *Server) checkSave(r *http.Request, req *api.SaveImageRequest, task *api.SaveImageTask) error {
	switch {
	case req.ID == "":
		return required("id")
	case req.Tag == "":
		return required("tag")
	case (req.NewTemplateName == "") == (req.TargetVMID == ""):
		return wire.Fail("one of new_template_name and target_vm_id is required")
	}
	if err := req.CheckValues(); err != nil {
		return wire.Fail(err.Error())
	}
	if _, err := base64.StdEncoding.DecodeString(req.Script); err != nil {
		return wire.Failf("script is not base64: %v", err)
	}
	task.Target = api.TemplateRef{Name: req.NewTemplateName, Tag: req.Tag}
	if req.TargetVMID == "" {
		return nil
	}
	t, err := s.catalog.template(r.Context(), string(req.TargetVMID))
	if err != nil {
		if isAnswer(err) {
			return api.ErrNoSuchTemplate.Fail(api.MsgNoSuchTemplate)
		}
		return err
	}
	task.Target = api.TemplateRef{ID: req.TargetVMID, Name: t.Name, Repository: t.Repository, Tag: req.Tag}
	if err := task.Target.Check(); err != nil {
		return wire.Failf("the registry's entry of the template cannot be used: %v", err)
	}
	revertKnown := false
	for _, v := range t.Versions {
		if v.Tag == req.Tag && !req.RevertBeforePush {
			return wire.Failf("the template has a tag %s", req.Tag)
		}
		revertKnown = revertKnown || v.Tag == req.RevertTag
	}
	if req.RevertTag != "" && !revertKnown {
		req.RevertBeforePush, req.RevertTag = false, ""
	}
	return nil
}

func (s *Server) images(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	id := r.URL.Query().Get("id")
	out := []saveRequest{}
	var one *cloud.SaveRequest
	s.store.Read(func(v *cloud.View) {
		one = v.SaveRequests[id]
		for _, img := range v.SaveRequests {
			if id == "" {
				out = append(out, s.describeImage(img))
			}
		}
	})
	if id != "" {
		if one == nil {
			return nil, cloud.ErrNotFound
		}
		return s.wholeImage(r, one)
	}
	slices.SortFunc(out, func(a, b saveRequest) int { return a.Request.Timestamp.Compare(b.Request.Timestamp) })
	return out, nil
}

// wholeImage describes a request with all that is kept of its script's output.
func (s *Server) wholeImage(r *http.Request, img *cloud.SaveRequest) (any, error) {
	if img.LongOutput {
		full := *img
		var err error
		if full.Script, err = s.store.FullOutput(r.Context(), img.ID, img.Script); err != nil {
			return nil, err
		}
		img = &full
	}
	return s.describeImage(img), nil
}

// describeImage is the one place where a save-image request becomes what the API
// shows.
func (s *Server) describeImage(img *cloud.SaveRequest) saveRequest {
	req := img.Task.Request
	registry := s.cfg.RegistryURL
	if len(img.Task.PushRegistries) > 0 {
		registry = img.Task.PushRegistries[0]
	}
	out := saveRequest{ID: img.ID, Status: img.Status, Request: saveDetails{
		RequestId: img.ID, Priority: defaultPriority, Timestamp: img.Created, RegistryAddr: registry, VMID: img.VMID,
		InstanceID: img.Instance, NodeID: img.Node, TemplateID: req.TargetVMID, NewTemplateName: req.NewTemplateName, Tag: req.Tag,
		Description: req.Description, Suspend: req.Suspend == nil || *req.Suspend, Script: req.Script, DoSuspendTest: req.DoSuspendSanityTest,
		RevertBeforePush: req.RevertBeforePush, RevertTag: req.RevertTag, CancelOnScriptFailure: req.CancelOnScriptFailure,
	}}
	if img.Error != "" {
		out.Error = &saveError{Message: img.Error}
	}
	if sc := img.Script; sc != nil {
		out.ScriptResult = &saveScript{ReturnCode: sc.ReturnCode, Errors: sc.Errors, DidTimeout: sc.DidTimeout, Stdout: sc.Stdout, Stderr: sc.Stderr}
	}
	return out
}
