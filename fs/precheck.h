/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_PRECHECK_H
#define LUNFS_PRECHECK_H

/*
 * lunfs --check: reads the configuration and looks whether state_dir and the
 * pools can be used, without making or locking anything.  Prints the verdict.
 * The exit code: 0 it is good, 1 it is not.
 */
int precheck_run(const char *config_path);

#endif
