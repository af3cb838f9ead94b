/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/render.h"

#include <inttypes.h>

#include "conf/cim.h"
#include "conf/timefmt.h"

static void add_text(struct strbuf *b, const char *text)
{
	if (*text)
		strbuf_addf(b, "%s\n", text);
}

static void add_number(struct strbuf *b, uint64_t number)
{
	strbuf_addf(b, "%" PRIu64 "\n", number);
}

static void add_known(struct strbuf *b, bool known, uint64_t number)
{
	if (known)
		add_number(b, number);
}

static void add_bool(struct strbuf *b, bool value)
{
	strbuf_adds(b, value ? "true\n" : "false\n");
}

static void add_name(struct strbuf *b, const struct cim_map *map, unsigned number)
{
	add_text(b, cim_name(map, number));
}

static void add_time(struct strbuf *b, int64_t unix_ms)
{
	if (!unix_ms)
		return;
	timefmt_add(b, unix_ms);
	strbuf_addc(b, '\n');
}

static void add_duration(struct strbuf *b, int64_t ms)
{
	timefmt_add_duration(b, ms < 0 ? 0 : ms);
	strbuf_addc(b, '\n');
}

void render_result(struct strbuf *b, const struct engine_result *result)
{
	const char *name = outcome_code_name(result->outcome.code);

	if (!result->when_ms)
		return;
	strbuf_addf(b, "%" PRIu32 "%s%s\n", result->outcome.code, name ? " " : "",
		    name ? name : "");
	add_text(b, result->outcome.sentence);
	timefmt_add(b, result->when_ms);
	strbuf_addf(b, " pid %d\n", (int)result->pid);
}

static const char *access_text(const struct element_info *info)
{
	if (!info->exclusive)
		return "shared";
	if (info->is_image)
		return "exclusive";
	return info->reserved ? "exclusive (reserved)" : "exclusive (unchecked)";
}

void render_element(struct strbuf *b, const struct element_info *info,
		    enum element_file file)
{
	switch (file) {
	case ELEMENT_URL:
		return add_text(b, info->url);
	case ELEMENT_ACCESS:
		return add_text(b, access_text(info));
	case ELEMENT_SIZE:
		return add_known(b, info->known, info->size);
	case ELEMENT_BLOCK_SIZE:
		return add_known(b, info->known, info->block_size);
	case ELEMENT_ALLOCATED:
		return add_known(b, info->known, info->allocated);
	case ELEMENT_VENDOR:
		return add_text(b, info->vendor);
	case ELEMENT_PRODUCT:
		return add_text(b, info->product);
	case ELEMENT_REVISION:
		return add_text(b, info->revision);
	case ELEMENT_SERIAL:
		return add_text(b, info->serial);
	case ELEMENT_WWN:
		return add_text(b, info->wwn);
	case ELEMENT_THIN:
		if (info->known)
			add_bool(b, info->thin);
		return;
	case ELEMENT_OPERATIONAL_STATUS:
		return add_name(b, &cim_operational_status, info->operational_status);
	case ELEMENT_ERROR:
		return add_text(b, info->error);
	case ELEMENT_RESULT:
		return render_result(b, &info->result);
	case ELEMENT_SESSIONS:
	case ELEMENT_GROUPS:
	case ELEMENT_RELATIONSHIPS:
	case ELEMENT_BACKING:
	case ELEMENT_DATA:
	case ELEMENT_N_FILES:
		return;
	}
}

/* What a group has whether or not it has a relationship. */
static bool render_group_itself(struct strbuf *b, const struct group_info *info,
				enum group_file file)
{
	switch (file) {
	case GROUP_RESULT:
		render_result(b, &info->result);
		return true;
	case GROUP_PERSISTENT:
		add_bool(b, info->persistent);
		return true;
	case GROUP_DELETE_ON_EMPTY:
		add_bool(b, info->delete_on_empty_element);
		return true;
	case GROUP_DELETE_ON_UNASSOCIATED:
		add_bool(b, info->delete_on_unassociated);
		return true;
	case GROUP_COPY_STATE:
		add_name(b, &cim_copy_state,
			 info->has_relationship ? info->copy_state :
						  CIM_COPY_NOT_APPLICABLE);
		return true;
	default:
		return false;
	}
}

void render_group(struct strbuf *b, const struct group_info *info, enum group_file file)
{
	if (render_group_itself(b, info, file) || !info->has_relationship)
		return;
	switch (file) {
	case GROUP_RELATIONSHIP_NAME:
		return add_text(b, info->relationship_name);
	case GROUP_SYNC_TYPE:
		return add_name(b, &cim_sync_type, info->sync_type);
	case GROUP_MODE:
		return add_name(b, &cim_mode, info->mode);
	case GROUP_REQUESTED_COPY_STATE:
		return add_name(b, &cim_copy_state, info->requested_copy_state);
	case GROUP_PROGRESS_STATUS:
		return add_name(b, &cim_progress_status, info->progress_status);
	case GROUP_PERCENT_SYNCED:
		return add_number(b, info->percent_synced);
	case GROUP_SYNC_MAINTAINED:
		return add_bool(b, info->sync_maintained);
	case GROUP_CONSISTENCY:
		return add_name(b, &cim_consistency, info->consistency);
	case GROUP_CONSISTENCY_ENABLED:
		return add_bool(b, info->consistency_enabled);
	case GROUP_CONSISTENCY_TYPE:
		if (info->consistency == CIM_CONSISTENCY_SEQUENTIAL)
			add_name(b, &cim_consistency_type,
				 CIM_CONSISTENCY_TYPE_SEQUENTIAL);
		return;
	case GROUP_CONSISTENCY_STATE:
		return add_name(b, &cim_consistency_state, info->consistency_state);
	case GROUP_CONSISTENCY_STATUS:
		return add_name(b, &cim_consistency_status, info->consistency_status);
	case GROUP_COPY_PRIORITY:
		return add_name(b, &cim_copy_priority, info->copy_priority);
	case GROUP_COPY_RECOVERY_MODE:
		return add_name(b, &cim_copy_recovery_mode, info->copy_recovery_mode);
	case GROUP_FAILED_COPY_STOPS_HOST_IO:
		return add_bool(b, info->failed_copy_stops_host_io);
	case GROUP_WHEN_ESTABLISHED:
		return add_time(b, info->when_established);
	case GROUP_WHEN_SYNCED:
		return add_time(b, info->when_synced);
	case GROUP_WHEN_SYNCHRONIZED:
		return add_time(b, info->when_synchronized);
	case GROUP_WHEN_ACTIVATED:
		return add_time(b, info->when_activated);
	case GROUP_WHEN_DEACTIVATED:
		return add_time(b, info->when_deactivated);
	case GROUP_WHEN_SUSPENDED:
		return add_time(b, info->when_suspended);
	case GROUP_CONSISTENCY_METHOD:
		return add_text(b, info->consistency_method);
	case GROUP_WAITING_FOR:
		return add_text(b, info->waiting_for);
	case GROUP_LAST_PROGRESS:
		return add_time(b, info->last_progress);
	default: /* render_group_itself(), engine_list_text(), links, directories */
		return;
	}
}

void render_pair(struct strbuf *b, const struct pair_info *info, enum pair_file file)
{
	switch (file) {
	case PAIR_COPY_STATE:
		return add_name(b, &cim_copy_state, info->copy_state);
	case PAIR_PROGRESS_STATUS:
		return add_name(b, &cim_progress_status, info->progress_status);
	case PAIR_PERCENT_SYNCED:
		return add_number(b, info->percent_synced);
	case PAIR_SYNC_STATE:
		return add_name(b, &cim_sync_state, info->sync_state);
	case PAIR_COPY_TYPE:
		return add_name(b, &cim_copy_type, info->copy_type);
	case PAIR_REPLICA_TYPE:
		return add_name(b, &cim_replica_type, info->replica_type);
	case PAIR_COPY_METHODOLOGY:
		return add_name(b, &cim_copy_methodology, info->copy_methodology);
	case PAIR_WHEN_SYNCED:
		return add_time(b, info->when_synced);
	case PAIR_BYTES_TOTAL:
		return add_number(b, info->bytes_total);
	case PAIR_BYTES_COPIED:
		return add_number(b, info->bytes_copied);
	case PAIR_BYTES_SKIPPED:
		return add_number(b, info->bytes_skipped);
	case PAIR_ERROR:
		return add_text(b, info->error);
	case PAIR_RESULT:
		return render_result(b, &info->result);
	case PAIR_SOURCE:
	case PAIR_TARGET:
	case PAIR_VERIFIED: /* engine_list_text() */
	case PAIR_MAP:
	case PAIR_DIGEST:
	case PAIR_N_FILES:
		return;
	}
}

void render_job(struct strbuf *b, const struct job_info *info, enum job_file file)
{
	switch (file) {
	case JOB_NAME:
		return add_text(b, info->name);
	case JOB_STATE:
		return add_name(b, &cim_job_state, info->state);
	case JOB_PERCENT_COMPLETE:
		return add_number(b, info->percent_complete);
	case JOB_OPERATIONAL_STATUS:
		for (unsigned i = 0; i < 2; i++)
			add_name(b, &cim_operational_status, info->operational_status[i]);
		return;
	case JOB_ERROR_CODE:
		return add_number(b, info->error_code);
	case JOB_ERROR_DESCRIPTION:
		return add_text(b, info->error_description);
	case JOB_START_TIME:
		return add_time(b, info->start_time);
	case JOB_ELAPSED_TIME:
		return add_duration(b, info->elapsed_ms);
	case JOB_TIME_OF_LAST_STATE_CHANGE:
		return add_time(b, info->last_state_change);
	case JOB_TIME_BEFORE_REMOVAL:
		return add_duration(b, info->time_before_removal_ms);
	case JOB_DELETE_ON_COMPLETION:
		return add_bool(b, info->delete_on_completion);
	case JOB_BYTES_TOTAL:
		return add_number(b, info->bytes_total);
	case JOB_BYTES_COPIED:
		return add_number(b, info->bytes_copied);
	case JOB_BYTES_SKIPPED:
		return add_number(b, info->bytes_skipped);
	case JOB_BYTES_PER_SECOND:
		return add_number(b, info->bytes_per_second);
	case JOB_SECONDS_LEFT:
		return add_known(b, info->seconds_left >= 0,
				 (uint64_t)info->seconds_left);
	case JOB_RESULT:
		return render_result(b, &info->result);
	case JOB_GROUP:
	case JOB_CONTROL:
	case JOB_N_FILES:
		return;
	}
}

void render_pool(struct strbuf *b, const struct pool_info *info, enum pool_file file)
{
	switch (file) {
	case POOL_TYPE:
		return add_text(b, "dir");
	case POOL_PATH:
		return add_text(b, info->path);
	case POOL_TOTAL:
		return add_number(b, info->total);
	case POOL_REMAINING:
		return add_number(b, info->remaining);
	case POOL_RESERVED:
		return add_number(b, info->reserved);
	case POOL_IMAGES:
	case POOL_N_FILES:
		return;
	}
}

void render_element_link(struct strbuf *b, const struct element_info *info,
			 enum element_file file)
{
	if (file == ELEMENT_BACKING)
		strbuf_adds(b, info->backing);
}

void render_group_link(struct strbuf *b, const struct group_info *info,
		       enum group_file file)
{
	if (file == GROUP_SOURCE)
		strbuf_adds(b, info->source);
	else if (file == GROUP_JOB && info->job)
		strbuf_addf(b, "../../jobs/%" PRIu64, info->job);
}

void render_pair_link(struct strbuf *b, const struct pair_info *info, enum pair_file file)
{
	const char *element = file == PAIR_SOURCE ? info->source :
			      file == PAIR_TARGET ? info->target :
						    "";

	if (*element)
		strbuf_addf(b, "../../../../elements/%s", element);
}

void render_job_link(struct strbuf *b, const struct job_info *info, enum job_file file)
{
	if (file == JOB_GROUP && *info->group)
		strbuf_addf(b, "../../groups/%s", info->group);
}
