/* SPDX-License-Identifier: BSD-2-Clause */

/* CreateGroupReplica: the named [setting], and Consistency, which hangs on it where
 * a member is shared. */

#include "engine/hold.h"
#include "engine/replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/setting.h"

/* The [setting]s there are, for a sentence. */
static void setting_names_of(const struct config *c, char *buf, size_t size)
{
	size_t len = 0;

	snprintf(buf, size, "none");
	for (size_t i = 0; i < c->n_settings && i < 8 && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
					c->settings[i].name);
}

static int refuse_setting(struct replica_call *call, const char *what)
{
	return outcome_fail(&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			    "ReplicationSettingData=%s: %s is not supported by this "
			    "version of LunFS; take it out of the section",
			    call->spec.setting, what);
}

static int check_setting(struct replica_call *call, const struct config_setting *s)
{
	bool hooks = *s->quiesce_command || *s->thaw_command;
	const char *line = s->properties;
	char property[64];

	if (s->shared_method == CONFIG_SHARED_DOUBLE_SCAN)
		return refuse_setting(call, "shared_method = double-scan");
	if (s->max_bytes_per_second)
		return refuse_setting(call, "max_bytes_per_second");
	for (; *line; line += strcspn(line, "\n") + 1) {
		snprintf(property, sizeof(property), "%.*s", (int)strcspn(line, "="),
			 line);
		if (!setting_is_supported(setting_find(property)))
			return refuse_setting(call, property);
	}
	if (hooks && s->shared_method != CONFIG_SHARED_QUIESCE)
		return refuse_setting(call, "a command without shared_method = quiesce");
	return 0;
}

static int take_setting(struct replica_call *call)
{
	const struct config *c = call->engine->sections;
	const struct config_setting *s = NULL;
	char names[256];
	int r;

	if (*call->spec.setting) {
		s = config_find_setting(c, call->spec.setting);
		setting_names_of(c, names, sizeof(names));
		if (!s)
			return outcome_fail(
				&call->outcome, CIM_RETURN_INVALID_PARAMETER, ENOENT,
				"ReplicationSettingData: there is no [setting %s]; "
				"settings: %s",
				call->spec.setting, names);
		r = check_setting(call, s);
		if (r < 0)
			return r;
	}
	call->shared_method = s ? s->shared_method : CONFIG_SHARED_NONE;
	call->quiesce_command = strdup(s ? s->quiesce_command : "");
	call->thaw_command = strdup(s ? s->thaw_command : "");
	if (!call->quiesce_command || !call->thaw_command)
		return outcome_fail(&call->outcome, CIM_RETURN_FAILED, ENOMEM,
				    "out of memory");
	return 0;
}

static int check_same_commands(struct replica_call *call)
{
	const struct hold *same =
		hold_find_same(call->engine, call->shared_method, call->quiesce_command,
			       call->thaw_command);

	if (!same || replica_idle_state(call))
		return 0;
	return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
			    "ReplicationSettingData=%s: its commands quiesce for \"%s\" "
			    "now, whose thaw would end this too; wait for the end of "
			    "that copy, or use a setting with other commands",
			    call->spec.setting, hold_owner(same));
}

static int check_shared(struct replica_call *call, const struct element *shared)
{
	if (call->spec.sync_type == CIM_SYNC_SNAPSHOT)
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"SyncType: there is no Snapshot of member \"%s\", as it "
			"is shared: what others write to it cannot be kept; make "
			"it exclusive and write it through LunFS, or make a Clone",
			shared->obj.name);
	if (call->spec.consistency == CIM_CONSISTENCY_SEQUENTIAL && !call->shared_method)
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"Consistency: Sequential Consistency is not to be had "
			"with shared_method = none, as member \"%s\" is "
			"shared: others may write it while it is copied; make "
			"it exclusive, name a [setting] with another shared_method as "
			"ReplicationSettingData, or leave Consistency out",
			shared->obj.name);
	return 0;
}

int replica_decide_consistency(struct replica_call *call)
{
	const struct element *shared = NULL;
	int r = take_setting(call);
	bool fuzzy;

	if (r < 0)
		return r;
	for (size_t i = 0; i < call->n && !shared; i++)
		if (hold_is_shared(call->sources[i]))
			shared = call->sources[i];
	if (shared)
		r = check_shared(call, shared);
	if (r < 0)
		return r;
	/* What is exclusive needs no reservation; its users are quiesced all the same,
	 * for the instant. */
	if (!shared && call->shared_method == CONFIG_SHARED_RESERVE)
		call->shared_method = CONFIG_SHARED_NONE;
	fuzzy = shared && !call->shared_method;
	call->consistency = call->spec.consistency ? call->spec.consistency :
			    fuzzy		   ? CIM_CONSISTENCY_NONE :
						     CIM_CONSISTENCY_SEQUENTIAL;
	call->consistency_state = fuzzy ? CIM_CONSISTENCY_STATE_INCONSISTENT :
				  call->consistency == CIM_CONSISTENCY_SEQUENTIAL ?
					  CIM_CONSISTENCY_STATE_CONSISTENT :
					  CIM_CONSISTENCY_STATE_NOT_APPLICABLE;
	return check_same_commands(call);
}
