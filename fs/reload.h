/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RELOAD_H
#define LUNFS_RELOAD_H

#include <stdbool.h>

#include "conf/config.h"

/* Whether two configurations say the same in [daemon], which only a start
 * reads; all other sections are engine_reload()'s. */
bool reload_same_daemon(const struct config_daemon *a, const struct config_daemon *b);

#endif
