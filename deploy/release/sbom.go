package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
)

// billOfMaterials writes what the programs of one platform consist of, in the
// format of CycloneDX. It is read from the programs themselves.
func (r *release) billOfMaterials(p platform, modules []module) error {
	licences := make(map[string][]string)
	for _, m := range modules {
		licences[m.path] = m.licences
	}
	components := make(map[string]cdx.Component)
	var (
		ours         []cdx.Component
		dependencies []cdx.Dependency
	)
	for _, name := range programs {
		info, err := buildinfo.ReadFile(filepath.Join(r.binaries(p), name))
		if err != nil {
			return err
		}
		program := component(cdx.ComponentTypeApplication, name, "v"+r.version, "github.com/ankacluster/ankacluster#cmd/"+name, []string{"Apache-2.0"})
		ours = append(ours, program)
		std := component(cdx.ComponentTypeLibrary, "std", strings.TrimPrefix(info.GoVersion, "go"), "std", licences["std"])
		components[std.BOMRef] = std
		needs := []string{std.BOMRef}
		for _, d := range info.Deps {
			if d.Replace != nil {
				d = d.Replace
			}
			c := component(cdx.ComponentTypeLibrary, d.Path, d.Version, d.Path, licences[d.Path])
			components[c.BOMRef] = c
			needs = append(needs, c.BOMRef)
		}
		slices.Sort(needs)
		dependencies = append(dependencies, cdx.Dependency{Ref: program.BOMRef, Dependencies: &needs})
	}
	var all []cdx.Component
	for _, c := range components {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	all = append(ours, all...)
	bom := cdx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceURL, []byte(r.archiveName(p)+r.commit)).String()
	whole := component(cdx.ComponentTypeApplication, "ankacluster", "v"+r.version, "github.com/ankacluster/ankacluster", []string{"Apache-2.0"})
	bom.Metadata = &cdx.Metadata{Timestamp: r.date, Component: &whole, Properties: &[]cdx.Property{{Name: "platform", Value: p.String()}, {Name: "commit", Value: r.commit}}}
	bom.Components, bom.Dependencies = &all, &dependencies
	return r.writeFile(r.archiveName(p)+".cdx.json", func(w io.Writer) error {
		return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	})
}

func component(kind cdx.ComponentType, name, version, purl string, licences []string) cdx.Component {
	path, sub, ok := strings.Cut(purl, "#")
	ref := fmt.Sprintf("pkg:golang/%s@%s", path, version)
	if ok {
		ref += "#" + sub
	}
	c := cdx.Component{BOMRef: ref, Type: kind, Name: name, Version: version, PackageURL: ref}
	if len(licences) > 0 {
		var list cdx.Licenses
		for _, l := range licences {
			list = append(list, cdx.LicenseChoice{License: &cdx.License{ID: l}})
		}
		c.Licenses = &list
	}
	return c
}
