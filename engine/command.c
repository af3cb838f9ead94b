/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/model.h"

#include <errno.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

/* The file `result` of a class. */
static unsigned result_file(enum engine_class class)
{
	switch (class) {
	case ENGINE_ELEMENT:
		return ELEMENT_RESULT;
	case ENGINE_GROUP:
		return GROUP_RESULT;
	case ENGINE_PAIR:
		return PAIR_RESULT;
	default:
		return JOB_RESULT;
	}
}

void engine_note_result(struct engine *e, enum engine_class class, uint64_t id,
			const struct outcome *outcome, pid_t pid)
{
	struct object *obj;

	engine_lock(e);
	obj = object_by_id(e, class, id);
	if (obj)
		obj->result = (struct engine_result){ .outcome = *outcome,
						      .when_ms = timefmt_now_ms(),
						      .pid = pid };
	engine_unlock(e);
	if (obj)
		engine_event(e, ENGINE_EVENT_CHANGED, class, id,
			     FILE_BIT(result_file(class)));
}

void command_answer(struct engine *e, struct engine_command *cmd)
{
	if (cmd->verb == ENGINE_WRITE || cmd->verb == ENGINE_REMOVE)
		engine_note_result(e, cmd->class, cmd->id, &cmd->outcome, cmd->pid);
	cmd->done(cmd);
}

int command_store_failed(struct outcome *o, int r)
{
	int error;
	uint32_t code = outcome_code_of_failure(-r, &error);

	return outcome_fail(o, code, error,
			    "the state store cannot be written: %s; nothing was changed",
			    strerror(-r));
}

static void run_write(struct engine *e, struct engine_command *cmd)
{
	switch (cmd->class) {
	case ENGINE_ELEMENT:
		element_write(e, cmd);
		break;
	case ENGINE_GROUP:
		group_write(e, cmd);
		break;
	case ENGINE_PAIR:
		pair_write(e, cmd);
		break;
	case ENGINE_JOB:
		job_write(e, cmd);
		break;
	default:
		outcome_fail(&cmd->outcome, CIM_RETURN_NOT_SUPPORTED, EPERM,
			     "this file cannot be written");
		command_answer(e, cmd);
	}
}

void command_run(struct engine *e, struct engine_command *cmd)
{
	if (engine_is_stopping(e)) {
		outcome_fail(&cmd->outcome, CIM_RETURN_FAILED, ENOTCONN,
			     "LunFS is stopping");
		cmd->done(cmd);
		return;
	}
	if (cmd->verb == ENGINE_WRITE) {
		run_write(e, cmd);
		return;
	}
	if (cmd->class == ENGINE_ELEMENT && cmd->verb == ENGINE_CREATE)
		element_create(e, cmd);
	else if (cmd->class == ENGINE_ELEMENT)
		element_remove(e, cmd);
	else if (cmd->class == ENGINE_GROUP && cmd->verb == ENGINE_CREATE)
		group_create(e, cmd);
	else if (cmd->class == ENGINE_GROUP)
		group_remove(e, cmd);
	else
		outcome_fail(&cmd->outcome, CIM_RETURN_NOT_SUPPORTED, EPERM,
			     "objects of this kind are not made or removed by hand");
	command_answer(e, cmd);
}
