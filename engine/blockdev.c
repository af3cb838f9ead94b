/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/blockdev.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

int bd_open(const struct bd_params *params, struct blockdev **ret_bd, char *error,
	    size_t error_size)
{
	switch (params->url->scheme) {
	case CONFIG_URL_ISCSI:
		return bd_iscsi_open(params, ret_bd, error, error_size);
	case CONFIG_URL_FILE:
		return bd_file_open(params, ret_bd, error, error_size);
	case CONFIG_URL_NULL:
		return bd_null_open(params, ret_bd, error, error_size);
	case CONFIG_URL_FAULT:
		return bd_fault_open(params, ret_bd, error, error_size);
	}
	snprintf(error, error_size, "%s: open: no back end has URL scheme %d",
		 params->name, (int)params->url->scheme);
	return -EINVAL;
}

static bool is_change(enum bd_op op)
{
	return op == BD_WRITE || op == BD_ZERO || op == BD_DISCARD;
}

/* What the contract of struct bd_req asks of its submitter. */
static int check_range(const struct bd_info *info, const struct bd_req *req)
{
	if (req->op == BD_FLUSH)
		return 0;
	if (req->length == 0 || req->offset > info->size ||
	    req->length > info->size - req->offset)
		return -EINVAL;
	if (info->block_size > 1 &&
	    (req->offset % info->block_size != 0 || req->length % info->block_size != 0))
		return -EINVAL;
	if ((req->op == BD_READ || req->op == BD_WRITE) &&
	    req->length > info->max_transfer)
		return -EINVAL;
	return 0;
}

static int check_locked(const struct blockdev *bd, const struct bd_req *req)
{
	if (bd->status.state != BD_READY)
		return -ENOTCONN;
	if (bd->info.read_only && is_change(req->op))
		return -EROFS;
	return check_range(&bd->info, req);
}

void bd_submit(struct blockdev *bd, struct bd_req *req)
{
	int r;

	req->bd = bd;
	req->next = NULL;
	req->n_extents = 0;
	req->bad_offset = 0;
	req->bad_length = 0;
	pthread_mutex_lock(&bd->lock);
	r = check_locked(bd, req);
	pthread_mutex_unlock(&bd->lock);
	if (r < 0)
		req->done(req, r);
	else
		bd->ops->submit(bd, req);
}

void bd_close(struct blockdev *bd, bool release, void (*closed)(void *opaque),
	      void *opaque)
{
	/* From here on nothing is submitted, and the watcher hears nothing. */
	pthread_mutex_lock(&bd->lock);
	bd->closing = true;
	bd->status.state = BD_DORMANT;
	pthread_mutex_unlock(&bd->lock);
	bd->ops->close(bd, release, closed, opaque);
}

static void no_sessions(struct blockdev *bd, struct strbuf *b)
{
	(void)bd;
	(void)b;
}

void bd_sessions(struct blockdev *bd, struct strbuf *b)
{
	void (*sessions)(struct blockdev *, struct strbuf *) =
		bd->ops->sessions ? bd->ops->sessions : no_sessions;

	sessions(bd, b);
}

static void no_reservations(struct blockdev *bd, struct bd_reserve *reserve)
{
	snprintf(reserve->error, sizeof(reserve->error),
		 "a device of the scheme %s: has no reservations", bd->ops->name);
	reserve->done(reserve, -EOPNOTSUPP);
}

void bd_reserve(struct blockdev *bd, struct bd_reserve *reserve)
{
	void (*fn)(struct blockdev *, struct bd_reserve *) =
		bd->ops->reserve ? bd->ops->reserve : no_reservations;
	bool closing;

	reserve->next = NULL;
	*reserve->error = '\0';
	pthread_mutex_lock(&bd->lock);
	closing = bd->closing;
	pthread_mutex_unlock(&bd->lock);
	if (closing) {
		snprintf(reserve->error, sizeof(reserve->error),
			 "the device is being closed");
		reserve->done(reserve, -ENOTCONN);
		return;
	}
	fn(bd, reserve);
}

void bd_get_status(struct blockdev *bd, struct bd_status *ret_status)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&bd->lock);

	*ret_status = bd->status;
}

bool bd_get_info(struct blockdev *bd, struct bd_info *ret_info)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&bd->lock);

	if (!bd->was_ready)
		return false;
	*ret_info = bd->info;
	return true;
}

bool bd_is_ready(struct blockdev *bd)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&bd->lock);

	return bd->status.state == BD_READY;
}

void bd_get_geometry(struct blockdev *bd, struct bd_geometry *ret_geometry)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&bd->lock);

	*ret_geometry = (struct bd_geometry){
		.ready = bd->status.state == BD_READY,
		.known = bd->was_ready,
		.size = bd->info.size,
		.block_size = bd->info.block_size,
		.max_transfer = bd->info.max_transfer,
		.opt_transfer = bd->info.opt_transfer,
		.opt_copy = bd->info.opt_copy ? bd->info.opt_copy : bd->info.opt_transfer,
	};
}

int bd_init(struct blockdev *bd, const struct blockdev_ops *ops,
	    const struct bd_params *params)
{
	bd->ops = ops;
	snprintf(bd->name, sizeof(bd->name), "%s", params->name);
	bd->watcher = params->watcher;
	memset(&bd->info, 0, sizeof(bd->info));
	memset(&bd->status, 0, sizeof(bd->status));
	bd->status.state = BD_DORMANT;
	bd->status.since_ns = timefmt_monotonic_ns();
	bd->was_ready = false;
	bd->closing = false;
	return -pthread_mutex_init(&bd->lock, NULL);
}

void bd_done(struct blockdev *bd)
{
	pthread_mutex_destroy(&bd->lock);
}

void bd_changed(struct blockdev *bd)
{
	bool closing;

	pthread_mutex_lock(&bd->lock);
	closing = bd->closing;
	pthread_mutex_unlock(&bd->lock);
	if (!closing && bd->watcher.changed)
		bd->watcher.changed(bd->watcher.opaque);
}

bool bd_set_state_locked(struct blockdev *bd, enum bd_state state, const char *error)
{
	bool changed;

	if (bd->closing)
		return false;
	changed = state != bd->status.state;
	if (changed)
		bd->status.since_ns = timefmt_monotonic_ns();
	bd->status.state = state;
	if (state == BD_READY)
		bd->was_ready = true;
	if (error && strncmp(error, bd->status.error, BD_ERROR_MAX - 1) != 0) {
		snprintf(bd->status.error, sizeof(bd->status.error), "%s", error);
		changed = true;
	}
	return changed;
}

void bd_set_state(struct blockdev *bd, enum bd_state state, const char *fmt, ...)
{
	char error[BD_ERROR_MAX] = "";
	bool changed;

	if (fmt) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(error, sizeof(error), fmt, ap);
		va_end(ap);
	}
	pthread_mutex_lock(&bd->lock);
	changed = bd_set_state_locked(bd, state, error);
	pthread_mutex_unlock(&bd->lock);
	if (changed)
		bd_changed(bd);
}

void bd_count_login(struct blockdev *bd)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&bd->lock);

	bd->status.logins++;
}

void bd_set_reserved(struct blockdev *bd, bool reserved)
{
	bool changed;

	pthread_mutex_lock(&bd->lock);
	changed = bd->status.reserved != reserved;
	bd->status.reserved = reserved;
	pthread_mutex_unlock(&bd->lock);
	if (changed)
		bd_changed(bd);
}

int bd_identify(struct blockdev *bd, const struct bd_info *info, char *error,
		size_t error_size)
{
	bool closing;
	int r = 0;

	pthread_mutex_lock(&bd->lock);
	closing = bd->closing;
	pthread_mutex_unlock(&bd->lock);
	if (closing) {
		snprintf(error, error_size, "%s: login: the device is being closed",
			 bd->name);
		return -ESHUTDOWN;
	}
	if (bd->watcher.identify)
		r = bd->watcher.identify(bd->watcher.opaque, info, error, error_size);
	if (r < 0)
		return r;
	pthread_mutex_lock(&bd->lock);
	bd->info = *info;
	pthread_mutex_unlock(&bd->lock);
	return 0;
}
