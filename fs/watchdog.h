/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_WATCHDOG_H
#define LUNFS_WATCHDOG_H

/*
 * Bounds a piece of work: if watchdog_stop() has not been called `seconds`
 * after watchdog_start(), a thread logs `message` and ends the process with
 * exit code 1.  One at a time.  -errno.
 */
int watchdog_start(unsigned seconds, const char *message);

/* Does nothing where none runs. */
void watchdog_stop(void);

#endif
