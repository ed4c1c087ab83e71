// Package registryapi is the registry's contract: the types of its REST API and
// a typed client. The server is in registryapi/server.
//
// Templates and tags of the REST API are a view over OCI repositories and tags:
// a template is a repository, a version is a tag. Files move over the OCI
// distribution API (/v2/).
//
// A pushed VM is an OCI image manifest. Its config blob is the VM configuration
// as JSON (media type MediaTypeVMConfig, fields "name" and "uuid" are read, the
// rest is opaque). Each layer is one file of the VM, named by the annotation
// org.opencontainers.image.title: `<32 hex>.ank` or `.img` is an image,
// `<32 hex>.sav` a state file, `nvram` the NVRAM. The manifest's annotation
// org.opencontainers.image.description is the tag's description. Manifests that
// say none of this are served as well; they only show less.
package registryapi
