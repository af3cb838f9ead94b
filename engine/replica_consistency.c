/* SPDX-License-Identifier: BSD-2-Clause */

/* CreateGroupReplica: Consistency, which hangs on the setting where a member is
 * shared. */

#include "engine/hold.h"
#include "engine/replica.h"

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
	if (replica_setting(call, "ConsistentPointInTime") && !call->shared_method)
		return outcome_fail(
			&call->outcome, CIM_RETURN_NOT_SUPPORTED, 0,
			"ConsistentPointInTime: true is not to be had with shared_method "
			"= none, as member \"%s\" is shared: others may write it while it "
			"is copied; make it exclusive, name a [setting] with another "
			"shared_method, or leave ConsistentPointInTime out",
			shared->obj.name);
	return 0;
}

int replica_decide_consistency(struct replica_call *call)
{
	const struct element *shared = NULL;
	bool fuzzy;
	int r = 0;

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
