/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * capabilities/: what is supported (CIM_ReplicationServiceCapabilities), out of the tables
 * that accept and refuse: those of conf/spec.c, conf/setting.c and transition.c.
 * What none of them knows is here, with what it hangs on.
 *
 * A line a value, "number name"; what it is of, or limited to, follows as Name=value, each
 * after a tab.  A method of which nothing is supported has no line.
 */

#include "engine/model.h"

#include <stdio.h>
#include <string.h>

#include "conf/capability.h"
#include "conf/setting.h"
#include "conf/spec.h"
#include "engine/transition.h"

static void add(struct strbuf *b, const struct cim_map *map, unsigned number)
{
	strbuf_addf(b, "%u %s", number, cim_name(map, number));
}

static void add_field(struct strbuf *b, const struct cim_map *map, unsigned number)
{
	strbuf_addf(b, "\t%s=%s", map->name, cim_name(map, number));
}

/* "\tCopyState=Synchronized,Skewed" */
static void add_states(struct strbuf *b, unsigned states)
{
	const char *between = "\tCopyState=";

	for (size_t i = 0; i < cim_copy_state.n_values; i++)
		if (states >> cim_copy_state.values[i].number & 1) {
			strbuf_addf(b, "%s%s", between, cim_copy_state.values[i].name);
			between = ",";
		}
}

static void add_line(struct strbuf *b, const struct cim_map *map, unsigned number)
{
	add(b, map, number);
	strbuf_addc(b, '\n');
}

/* Calls fn for each SyncType that is supported. */
static void each_sync_type(struct strbuf *b,
			   void (*fn)(struct strbuf *b, unsigned sync_type))
{
	for (size_t i = 0; i < cim_sync_type.n_values; i++)
		if (spec_supports(cim_sync_type.name, cim_sync_type.values[i].number))
			fn(b, cim_sync_type.values[i].number);
}

/* ---- replication types ---------------------------------------------------------- */

static void types_of(struct strbuf *b, unsigned sync_type, bool with_input)
{
	for (size_t i = 0; i < cim_mode.n_values; i++) {
		unsigned mode = cim_mode.values[i].number;

		if (!spec_supports(cim_mode.name, mode))
			continue;
		add(b, &capability_replication_type,
		    capability_type_of(sync_type, mode, false));
		if (with_input) {
			add_field(b, &cim_sync_type, sync_type);
			add_field(b, &cim_mode, mode);
		}
		strbuf_addc(b, '\n');
	}
}

static void add_types(struct strbuf *b, unsigned sync_type)
{
	types_of(b, sync_type, false);
}

static void add_types_with_input(struct strbuf *b, unsigned sync_type)
{
	types_of(b, sync_type, true);
}

static void types(struct strbuf *b)
{
	each_sync_type(b, add_types);
}

static void types_with_input(struct strbuf *b)
{
	each_sync_type(b, add_types_with_input);
}

/* ---- states ------------------------------------------------------------------------ */

static bool is_accessible(unsigned sync_type, unsigned state)
{
	return TRANSITION_THERE & TRANSITION_IN(state) ||
	       pair_state_reads_point(sync_type, state);
}

static void add_copy_states(struct strbuf *b, unsigned sync_type)
{
	for (unsigned s = CIM_COPY_INITIALIZED; s <= CIM_COPY_RESTORED; s++)
		if (transition_states(sync_type) >> s & 1) {
			add(b, &cim_copy_state, s);
			add_field(b, &cim_sync_type, sync_type);
			strbuf_addf(b, "\tHostAccessible=%s\n",
				    is_accessible(sync_type, s) ? "true" : "false");
		}
}

static void copy_states(struct strbuf *b)
{
	each_sync_type(b, add_copy_states);
}

static void add_group_copy_states(struct strbuf *b, unsigned sync_type)
{
	unsigned states = transition_states(sync_type) | 1u << CIM_COPY_MIXED;

	for (unsigned s = CIM_COPY_INITIALIZED; s <= CIM_COPY_RESTORED; s++)
		if (states >> s & 1) {
			add(b, &cim_copy_state, s);
			add_field(b, &cim_sync_type, sync_type);
			strbuf_addc(b, '\n');
		}
}

static void group_copy_states(struct strbuf *b)
{
	each_sync_type(b, add_group_copy_states);
}

static void add_wait_states(struct strbuf *b, unsigned sync_type)
{
	for (unsigned s = CIM_COPY_INITIALIZED; s <= CIM_COPY_RESTORED; s++)
		if (spec_supports("WaitForCopyState", s)) {
			add(b, &cim_copy_state, s);
			add_field(b, &cim_sync_type, sync_type);
			strbuf_adds(b, "\tMethodName=CreateGroupReplica\n");
		}
}

static void wait_states(struct strbuf *b)
{
	each_sync_type(b, add_wait_states);
}

/* ---- operations ---------------------------------------------------------------------- */

static void add_operation(struct strbuf *b, unsigned number, unsigned sync_type)
{
	unsigned from = transition_from(number, sync_type);

	if (!from)
		return;
	add(b, &cim_operation, number);
	add_field(b, &cim_sync_type, sync_type);
	add_states(b, from);
	if (transition_only_detaching(number, sync_type))
		add_field(b, &cim_progress_status, CIM_PROGRESS_DETACHING);
	strbuf_addc(b, '\n');
}

static void add_operations(struct strbuf *b, unsigned sync_type)
{
	for (size_t i = 0; i < cim_operation.n_values; i++)
		add_operation(b, cim_operation.values[i].number, sync_type);
}

static void operations(struct strbuf *b)
{
	each_sync_type(b, add_operations);
}

/* ---- features ------------------------------------------------------------------------- */

static bool has_feature(unsigned feature)
{
	switch (feature) {
	case CAPABILITY_ANY_POOL:
		return spec_supports("TargetPool", 0);
	case CAPABILITY_ADJUSTABLE_PRIORITY:
		return setting_is_supported(setting_find("CopyPriority"), CIM_SYNC_CLONE);
	case CAPABILITY_DETACHED_IS_VOLUME:
		return transition_from(CIM_OP_DETACH, CIM_SYNC_SNAPSHOT);
	default: /* groups; the fence */
		return true;
	}
}

static void features(struct strbuf *b)
{
	for (size_t i = 0; i < capability_feature.n_values; i++)
		if (has_feature(capability_feature.values[i].number))
			add_line(b, &capability_feature,
				 capability_feature.values[i].number);
}

static bool has_group_feature(unsigned feature)
{
	switch (feature) {
	case CAPABILITY_ONE_TO_MANY:
	case CAPABILITY_TARGET_COUNT:
		return spec_supports("TargetElementCount", 2);
	case CAPABILITY_MANY_TO_MANY:
		return spec_supports("SourceGroup", 0);
	case CAPABILITY_RELATIONSHIP_NAME:
		return spec_supports("RelationshipName", 0);
	case CAPABILITY_NO_TARGET_GROUP:
	case CAPABILITY_EMPTY_TARGETS:
		return !spec_supports("TargetGroup", 0);
	case CAPABILITY_NO_TARGET_POOL:
		return !spec_supports("TargetPool", 0);
	case CAPABILITY_NO_TARGET_GOAL:
		return !spec_supports("TargetSettingGoal", 0);
	default: /* what group.c takes */
		return true;
	}
}

static void group_features(struct strbuf *b)
{
	for (size_t i = 0; i < capability_group_feature.n_values; i++)
		if (has_group_feature(capability_group_feature.values[i].number))
			add_line(b, &capability_group_feature,
				 capability_group_feature.values[i].number);
}

static void objects(struct strbuf *b)
{
	add_line(b, &capability_storage_object, CAPABILITY_STORAGE_VOLUME);
}

static void synchronous_actions(struct strbuf *b)
{
	for (size_t i = 0; i < capability_action.n_values; i++)
		add_line(b, &capability_action, capability_action.values[i].number);
}

/* Those that may answer 4096. */
static void asynchronous_actions(struct strbuf *b)
{
	add_line(b, &capability_action, CAPABILITY_CREATE_GROUP_REPLICA);
	add_line(b, &capability_action, CAPABILITY_MODIFY_SYNCHRONIZATION);
}

/* Images have no blocks where the source has none, and read as zeros there. */
static void thin_features(struct strbuf *b)
{
	add_line(b, &capability_thin_feature, CAPABILITY_THIN_ZEROS);
}

/* 0: no limit; an image is a source when it is in no relationship any more. */
static void maximum(struct strbuf *b)
{
	for (size_t i = 0; i < capability_component.n_values; i++) {
		unsigned number = capability_component.values[i].number;

		add(b, &capability_component, number);
		strbuf_addf(b, "\tMaxValue=%d\n", number == CAPABILITY_MAX_HOPS);
	}
}

/* ---- consistency, groups, settings --------------------------------------------------- */

/* Its own number for what is 3 in a spec. */
static void consistency(struct strbuf *b)
{
	if (spec_supports("Consistency", CIM_CONSISTENCY_SEQUENTIAL))
		add_line(b, &cim_consistency_type, CIM_CONSISTENCY_TYPE_SEQUENTIAL);
}

static void persistency(struct strbuf *b)
{
	add_line(b, &capability_persistency,
		 GROUP_PERSISTENT_BY_DEFAULT ? CAPABILITY_PERSISTENT :
					       CAPABILITY_NOT_PERSISTENT);
}

static void add_settings(struct strbuf *b, unsigned sync_type)
{
	char values[400];

	for (int i = 0; i < SETTING_N_PROPERTIES; i++)
		if (setting_is_supported(i, sync_type)) {
			setting_list_supported(i, sync_type, ",", values, sizeof(values));
			strbuf_addf(b, "%u %s", setting_code(i), setting_names[i]);
			add_field(b, &cim_sync_type, sync_type);
			strbuf_addf(b, "\tSupportedValues=%s\n", values);
		}
}

static void settings(struct strbuf *b)
{
	each_sync_type(b, add_settings);
}

/* An instance, so with the names of the properties, as in a spec. */
static void add_default_settings(struct strbuf *b, unsigned sync_type)
{
	char value[SETTING_VALUE_SIZE];

	for (int i = 0; i < SETTING_N_PROPERTIES; i++)
		if (setting_format_default(i, sync_type, value)) {
			strbuf_addf(b, "%s=%s", setting_names[i], value);
			add_field(b, &cim_sync_type, sync_type);
			strbuf_addc(b, '\n');
		}
}

static void default_settings(struct strbuf *b)
{
	each_sync_type(b, add_default_settings);
}

/* Of which nothing is supported. */
static void nothing(struct strbuf *b)
{
	(void)b;
}

static void (*const writers[CAPABILITY_N_FILES])(struct strbuf *b) = {
	[CAP_TYPES] = types,
	[CAP_OBJECTS] = objects,
	[CAP_SYNCHRONOUS] = synchronous_actions,
	[CAP_ASYNCHRONOUS] = asynchronous_actions,
	[CAP_TO_TYPE] = types_with_input,
	[CAP_FROM_TYPE] = types_with_input,
	[CAP_SYNCHRONIZATION] = types_with_input,
	[CAP_TYPES_FOR_SYSTEM] = types,
	[CAP_COPY_STATES] = copy_states,
	[CAP_GROUP_COPY_STATES] = group_copy_states,
	[CAP_WAIT_STATES] = wait_states,
	[CAP_FEATURES] = features,
	[CAP_GROUP_FEATURES] = group_features,
	[CAP_LIST_FEATURES] = nothing,
	[CAP_CONSISTENCY] = consistency,
	[CAP_OPERATIONS] = operations,
	[CAP_GROUP_OPERATIONS] = operations,
	[CAP_LIST_OPERATIONS] = nothing,
	[CAP_DEFINE_STATE] = nothing,
	[CAP_THIN] = thin_features,
	[CAP_COMPRESSION] = nothing,
	[CAP_TOKENIZED] = nothing,
	[CAP_CONNECTIONS] = nothing,
	[CAP_MAXIMUM] = maximum,
	[CAP_DEFAULT_CONSISTENCY] = consistency,
	[CAP_DEFAULT_PERSISTENCY] = persistency,
	[CAP_SETTINGS] = settings,
	[CAP_SETTING_TIMES] = nothing,
	[CAP_DEFAULT_SETTINGS] = default_settings,
};

void engine_capability_text(enum capability_file file, struct strbuf *b)
{
	writers[file](b);
}
