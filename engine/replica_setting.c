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
	return 0;
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
	return call->setting && call->quiesce_command && call->thaw_command ?
		       0 :
		       no_memory(call);
}

unsigned replica_setting(const struct replica_call *call, const char *property)
{
	return setting_value(call->setting, property, call->spec.sync_type);
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

	return r < 0 ? r : check_methodology(call);
}
