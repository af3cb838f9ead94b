/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/statusjson.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "conf/cim.h"
#include "conf/timefmt.h"

static void set(json_t *j, const char *key, json_t *value)
{
	json_object_set_new_nocheck(j, key, value); /* takes NULL for both */
}

static void set_text(json_t *j, const char *key, const char *value)
{
	json_t *string;

	if (!*value)
		return;
	string = json_string(value);
	if (!string) /* not UTF-8: a device may say anything of itself */
		string = json_string("?");
	set(j, key, string);
}

static void set_number(json_t *j, const char *key, uint64_t value)
{
	set(j, key, json_integer((json_int_t)value));
}

static void set_bool(json_t *j, const char *key, bool value)
{
	set(j, key, json_boolean(value));
}

static void set_time(json_t *j, const char *key, int64_t unix_ms)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	if (!unix_ms)
		return;
	timefmt_add(&b, unix_ms);
	set_text(j, key, b.s);
}

static void set_seconds(json_t *j, const char *key, int64_t ms)
{
	set(j, key, json_real((double)ms / 1000));
}

static void set_enum(json_t *j, const char *key, const struct cim_map *map,
		     unsigned number)
{
	const char *name = cim_name(map, number);
	char number_key[64];

	if (!*name)
		return;
	set_text(j, key, name);
	snprintf(number_key, sizeof(number_key), "%sNumber", key);
	set_number(j, number_key, number);
}

static int add_piece(const char *piece, size_t len, void *opaque)
{
	strbuf_add(opaque, piece, len);
	return 0;
}

static void finish(json_t *j, struct strbuf *b)
{
	if (!j || json_dump_callback(j, add_piece, b, JSON_REAL_PRECISION(15)))
		b->failed = true;
	json_decref(j);
}

void statusjson_element(struct strbuf *b, const struct element_info *info)
{
	json_t *j = json_object();

	set_text(j, "name", info->name);
	set_text(j, "url", info->url);
	set_text(j, "access", info->exclusive ? "exclusive" : "shared");
	set_bool(j, "reserved", info->reserved);
	set_bool(j, "configured", info->configured);
	set_bool(j, "image", info->is_image);
	if (info->known) {
		set_number(j, "size", info->size);
		set_number(j, "block_size", info->block_size);
		set_number(j, "allocated", info->allocated);
		set_bool(j, "thin", info->thin);
	}
	set_text(j, "vendor", info->vendor);
	set_text(j, "product", info->product);
	set_text(j, "revision", info->revision);
	set_text(j, "serial", info->serial);
	set_text(j, "wwn", info->wwn);
	set_text(j, "backing", info->backing);
	set_enum(j, "OperationalStatus", &cim_operational_status,
		 info->operational_status);
	set_text(j, "error", info->error);
	finish(j, b);
}

static void set_relationship(json_t *j, const struct group_info *info)
{
	set_text(j, "RelationshipName", info->relationship_name);
	set_text(j, "source", info->source);
	set_enum(j, "SyncType", &cim_sync_type, info->sync_type);
	set_enum(j, "Mode", &cim_mode, info->mode);
	set_enum(j, "RequestedCopyState", &cim_copy_state, info->requested_copy_state);
	set_enum(j, "ProgressStatus", &cim_progress_status, info->progress_status);
	set_number(j, "PercentSynced", info->percent_synced);
	set_bool(j, "SyncMaintained", info->sync_maintained);
	set_enum(j, "Consistency", &cim_consistency, info->consistency);
	set_bool(j, "ConsistencyEnabled", info->consistency_enabled);
	set_enum(j, "ConsistencyState", &cim_consistency_state, info->consistency_state);
	set_enum(j, "ConsistencyStatus", &cim_consistency_status,
		 info->consistency_status);
	set_enum(j, "CopyPriority", &cim_copy_priority, info->copy_priority);
	set_enum(j, "CopyRecoveryMode", &cim_copy_recovery_mode,
		 info->copy_recovery_mode);
	set_bool(j, "FailedCopyStopsHostIO", info->failed_copy_stops_host_io);
	set_time(j, "WhenEstablished", info->when_established);
	set_time(j, "WhenSynced", info->when_synced);
	set_time(j, "WhenSynchronized", info->when_synchronized);
	set_time(j, "WhenActivated", info->when_activated);
	set_time(j, "WhenDeactivated", info->when_deactivated);
	set_time(j, "WhenSuspended", info->when_suspended);
	set_text(j, "consistency", info->consistency_method);
	set_text(j, "waiting_for", info->waiting_for);
	set_time(j, "last_progress", info->last_progress);
	set_number(j, "bytes_total", info->bytes_total);
	set_number(j, "bytes_copied", info->bytes_copied);
	set_number(j, "bytes_skipped", info->bytes_skipped);
	set_number(j, "bytes_per_second", info->bytes_per_second);
	if (info->seconds_left >= 0)
		set_number(j, "seconds_left", (uint64_t)info->seconds_left);
	if (info->job)
		set_number(j, "job", info->job);
}

void statusjson_group(struct strbuf *b, const struct group_info *info)
{
	json_t *j = json_object();

	set_text(j, "name", info->name);
	set_bool(j, "Persistent", info->persistent);
	set_enum(j, "CopyState", &cim_copy_state,
		 info->has_relationship ? info->copy_state : CIM_COPY_NOT_APPLICABLE);
	if (info->has_relationship)
		set_relationship(j, info);
	finish(j, b);
}

void statusjson_job(struct strbuf *b, const struct job_info *info)
{
	json_t *j = json_object();

	set_number(j, "job", info->id);
	set_text(j, "Name", info->name);
	set_text(j, "group", info->group);
	set_enum(j, "JobState", &cim_job_state, info->state);
	set_number(j, "PercentComplete", info->percent_complete);
	set_enum(j, "OperationalStatus", &cim_operational_status,
		 info->operational_status[0]);
	set_number(j, "ErrorCode", info->error_code);
	set_text(j, "ErrorDescription", info->error_description);
	set_time(j, "StartTime", info->start_time);
	set_seconds(j, "ElapsedTime", info->elapsed_ms);
	set_time(j, "TimeOfLastStateChange", info->last_state_change);
	set_seconds(j, "TimeBeforeRemoval", info->time_before_removal_ms);
	set_bool(j, "DeleteOnCompletion", info->delete_on_completion);
	set_number(j, "bytes_total", info->bytes_total);
	set_number(j, "bytes_copied", info->bytes_copied);
	set_number(j, "bytes_skipped", info->bytes_skipped);
	set_number(j, "bytes_per_second", info->bytes_per_second);
	if (info->seconds_left >= 0)
		set_number(j, "seconds_left", (uint64_t)info->seconds_left);
	finish(j, b);
}

void statusjson_pool(struct strbuf *b, const struct pool_info *info)
{
	json_t *j = json_object();

	set_text(j, "name", info->name);
	set_text(j, "type", "dir");
	set_text(j, "path", info->path);
	set_number(j, "TotalManagedSpace", info->total);
	set_number(j, "RemainingManagedSpace", info->remaining);
	set_number(j, "reserved", info->reserved);
	finish(j, b);
}
