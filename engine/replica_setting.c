/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * CreateGroupReplica: ReplicationSettingData, as the name of a [setting] or as a section
 * of the spec.  What is taken here stays with the relationship (its row), whatever
 * becomes of the configuration.
 *
 * Which values are carried out at all is conf/setting.c's to say; here is what hangs on
 * other parameters.
 */

#include "engine/replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/setting.h"

static int no_memory(struct replica_call *call)
{
	return outcome_fail(&call->outcome, CIM_RETURN_FAILED, ENOMEM, "out of memory");
}

/* The [setting]s there are, for a sentence. */
static void setting_names_of(const struct config *c, char *buf, size_t size)
{
	size_t len = 0;

	snprintf(buf, size, "none");
	for (size_t i = 0; i < c->n_settings && i < 8 && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
					c->settings[i].name);
}

static int find_setting(struct replica_call *call, const char *parameter,
			const char *name, const struct config_setting **ret_setting)
{
	const struct config *c = call->engine->sections;
	char names[256];

	*ret_setting = config_find_setting(c, name);
	if (*ret_setting)
		return 0;
	setting_names_of(c, names, sizeof(names));
	return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, ENOENT,
			    "%s: there is no [setting %s]; settings: %s", parameter, name,
			    names);
}

/* The keys of LunFS's own. */
static int check_own_keys(struct replica_call *call, const struct config_setting *s)
{
	bool hooks = *s->quiesce_command || *s->thaw_command;
	const char *what = NULL;

	if (s->shared_method == CONFIG_SHARED_DOUBLE_SCAN)
		what = "shared_method = double-scan";
	else if (s->digest && call->spec.sync_type != CIM_SYNC_CLONE)
		what = "digest of what is not copied";
	else if (hooks && s->shared_method != CONFIG_SHARED_QUIESCE)
		what = "a command without shared_method = quiesce";
	if (!what)
		return 0;
	return outcome_fail(&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			    "ReplicationSettingData=%s: %s is not supported by this "
			    "version of LunFS; take it out of the section",
			    s->name, what);
}

static int take_named(struct replica_call *call, const struct config_setting *s)
{
	char error[OUTCOME_SENTENCE_MAX / 2];
	int r = check_own_keys(call, s);

	if (r < 0)
		return r;
	if (setting_check_lines(s->properties, call->spec.sync_type, error,
				sizeof(error)) < 0)
		return outcome_fail(&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
				    "ReplicationSettingData=%s: %s", s->name, error);
	call->shared_method = s->shared_method;
	call->max_bytes_per_second = s->max_bytes_per_second;
	call->digest = s->digest;
	return 0;
}

/* The name of a [setting] that has nothing but what a target can be like. */
static int check_goal(struct replica_call *call, const struct config_setting *s)
{
	const char *wrong = *s->quiesce_command	    ? "quiesce_command" :
			    *s->thaw_command	    ? "thaw_command" :
			    s->shared_method	    ? "shared_method" :
			    s->max_bytes_per_second ? "max_bytes_per_second" :
			    s->digest		    ? "digest" :
						      NULL;
	char error[OUTCOME_SENTENCE_MAX / 2];

	for (int i = 0; i < SETTING_N_PROPERTIES && !wrong; i++) {
		bool is_goal = false;

		for (size_t k = 0; k < setting_n_goal_names; k++)
			is_goal |= !strcmp(setting_names[i], setting_goal_names[k]);
		if (!is_goal && setting_is_given(s->properties, setting_names[i]))
			wrong = setting_names[i];
	}
	if (wrong)
		return outcome_fail(
			&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			"TargetSettingGoal=%s: %s is not what a target is like; name a "
			"[setting] of nothing but %s and %s",
			s->name, wrong, setting_goal_names[0], setting_goal_names[1]);
	if (setting_check_lines(s->properties, call->spec.sync_type, error,
				sizeof(error)) < 0)
		return outcome_fail(&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
				    "TargetSettingGoal=%s: %s", s->name, error);
	return 0;
}

/* A section has a '=', a name has none. */
static int take_goal(struct replica_call *call)
{
	const char *goal = call->spec.target_setting_goal;
	const struct config_setting *s = NULL;
	int r = 0;

	if (!goal)
		return 0;
	if (!strchr(goal, '='))
		r = find_setting(call, "TargetSettingGoal", goal, &s);
	if (!r && s)
		r = check_goal(call, s);
	if (r < 0)
		return r;
	call->goal = strdup(s ? s->properties : goal);
	return call->goal ? 0 : no_memory(call);
}

/* It can be said twice, but not differently. */
static int check_policies(struct replica_call *call)
{
	const char *name = "ThinProvisioningPolicy";
	unsigned sync_type = call->spec.sync_type;

	if (!setting_is_given(call->setting, name) ||
	    !setting_is_given(call->goal, name) ||
	    setting_value(call->setting, name, sync_type) ==
		    setting_value(call->goal, name, sync_type))
		return 0;
	return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			    "%s: ReplicationSettingData and TargetSettingGoal have "
			    "different values; give one of them",
			    name);
}

int replica_take_setting(struct replica_call *call)
{
	const struct config_setting *s = NULL;
	const char *lines = call->spec.setting_properties;
	int r = 0;

	if (*call->spec.setting)
		r = find_setting(call, "ReplicationSettingData", call->spec.setting, &s);
	if (!r && s)
		r = take_named(call, s);
	if (r < 0)
		return r;
	if (s)
		lines = s->properties;
	call->setting = strdup(lines ? lines : "");
	call->quiesce_command = strdup(s ? s->quiesce_command : "");
	call->thaw_command = strdup(s ? s->thaw_command : "");
	if (!call->setting || !call->quiesce_command || !call->thaw_command)
		return no_memory(call);
	r = take_goal(call);
	return r < 0 ? r : check_policies(call);
}

unsigned replica_setting(const struct replica_call *call, const char *property)
{
	return setting_value(call->setting, property, call->spec.sync_type);
}

static bool takes_after_source(const struct replica_call *call)
{
	return !call->goal && replica_setting(call, "TargetElementGoal") ==
				      SETTING_TARGET_GOAL_AS_SOURCE;
}

/* The half of the policy that speaks of the target decides. */
bool replica_is_thick(const struct replica_call *call, const struct element *source)
{
	const char *name = "ThinProvisioningPolicy";
	const char *lines =
		setting_is_given(call->goal, name) ? call->goal : call->setting;
	unsigned policy = setting_value(lines, name, call->spec.sync_type);

	if (!setting_is_given(lines, name) && takes_after_source(call))
		policy = SETTING_THIN_AS_SOURCE;
	if (policy != SETTING_THIN_AS_SOURCE)
		return policy == SETTING_THIN_TO_FULL;
	return element_is_lun(source) ? source->have_info && !source->info.thin :
					source->reserved;
}

bool replica_is_read_only(const struct replica_call *call, const struct element *source)
{
	if (setting_value(call->goal, "ReadOnly", call->spec.sync_type) ==
	    SETTING_READ_ONLY_TARGET)
		return true;
	return takes_after_source(call) &&
	       (source->read_only || (source->have_info && source->info.read_only));
}

/* What is said of targets that are made, where none are. */
static int check_given_targets(struct replica_call *call)
{
	unsigned policy = replica_setting(call, "ThinProvisioningPolicy");
	const char *name =
		policy != SETTING_THIN_IMPLEMENTATION && policy != SETTING_THIN_POOL ?
			"ThinProvisioningPolicy" :
		replica_setting(call, "TargetElementGoal") ==
				SETTING_TARGET_GOAL_AS_SOURCE ?
			"TargetElementGoal" :
			NULL;

	if (!call->targets || !name)
		return 0;
	return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
			    "%s speaks of targets that are made, and those of "
			    "TargetGroup=%s are there already, as they are; leave it out",
			    name, call->spec.target_group);
}

/* One fate, or each its own. */
static int check_fate(struct replica_call *call)
{
	if (call->consistency != CIM_CONSISTENCY_SEQUENTIAL ||
	    replica_setting(call, "OnGroupOrListError") != SETTING_ON_ERROR_CONTINUE)
		return 0;
	return outcome_fail(
		&call->outcome, CIM_RETURN_INVALID_PARAMETER, 0,
		"OnGroupOrListError: Continue excludes Sequential "
		"Consistency, with which all members break with one; add "
		"Consistency=No Consistency, or leave OnGroupOrListError out");
}

/* Without points in time a Clone is no snapshot first. */
static int check_methodology(struct replica_call *call)
{
	if (replica_setting(call, "DesiredCopyMethodology") !=
	    CIM_METHODOLOGY_SNAP_AND_CLONE)
		return 0;
	for (size_t i = 0; i < call->n; i++) {
		const struct element *el = call->sources[i];

		if (el->exclusive || !element_is_lun(el))
			continue;
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"DesiredCopyMethodology: Snap-And-Clone is not to be had, as "
			"member \"%s\" is shared: there is no snapshot of it; make it "
			"exclusive, or take Full Copy",
			el->obj.name);
	}
	return 0;
}

int replica_check_setting(struct replica_call *call)
{
	int r = check_fate(call);

	if (!r)
		r = check_methodology(call);
	return r < 0 ? r : check_given_targets(call);
}
