/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/reload.h"

#include <string.h>

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool reload_same_daemon(const struct config_daemon *a, const struct config_daemon *b)
{
	return same(a->state_dir, b->state_dir) &&
	       same(a->initiator_name, b->initiator_name) &&
	       same(a->default_pool, b->default_pool) &&
	       a->copy_memory == b->copy_memory &&
	       a->job_retention_s == b->job_retention_s &&
	       a->fence_timeout_ms == b->fence_timeout_ms &&
	       a->io_timeout_ms == b->io_timeout_ms && a->io_threads == b->io_threads &&
	       a->allow_other == b->allow_other && a->user == b->user &&
	       a->group == b->group && a->mode == b->mode;
}
