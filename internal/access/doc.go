// Package access answers who asks and whether they may: Principal, Permission,
// Authenticator and Authorizer, and the Guard that a route table puts in front of
// each handler.
//
//	request -> Guard.Admit(r, permission)
//	             Authenticator   who asks        -> Principal, ErrUnauthenticated
//	             Authorizer      may they        -> nil, *DeniedError
//	        -> handler, which finds the Principal by From(ctx)
//
// The permissions are the documented ones of the controller and of the registry,
// and a few of ours for calls that no group of people has: see Permission. Open
// is the Authenticator and Authorizer of a server without authentication.
package access
