// Package console serves the pages on which people see a hub and act on it: server-rendered HTML with one stylesheet and one small
// script, all embedded, which the browser gets from nowhere else.
//
// A page is a method of Console in a file of its own, a template in templates/ with the same name, and a row in web's table of routes,
// which says who may have it as for the API. The package therefore decides nothing about rights: what a handler shows only to owners
// it reads through Ports, which share the code of the API's handlers.
//
// Every page works without script. With it, the parts of a page that a template defines as fragments are replaced in place as they
// change (live.go). Those who look at the same page with equal rights share one producer.
package console
