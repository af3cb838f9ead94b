/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_STOP_H
#define LUNFS_STOP_H

#include <stdbool.h>

/*
 * lunfs --stop: asks the daemon of a mountpoint to end, through extended
 * attributes of the mount's root, and waits for its end.  Prints what became
 * of it.  The exit code: 0 it has ended (or was dead and its mount is cleared),
 * 1 it has not.
 *
 *	user.lunfs.pid       read: the daemon's process
 *	user.lunfs.stop      set to "" or "force": asks for the end; EBUSY while
 *	                     there are open handles on data or images ("")
 *	user.lunfs.handles   read: those handles, a line an element
 *	user.lunfs.reserved  read: elements whose reservation outlives a stop, a
 *	                     line each
 */
int stop_run(const char *mountpoint, bool force);

#endif
