/* SPDX-License-Identifier: BSD-2-Clause */

/* The requests of a session, handed over by any thread, and its SCSI commands:
 * given to libiscsi, answered, sent again. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "engine/bd_iscsi.h"
#include "engine/iscsi_session.h"

static void list_add(struct iscsi_cmd_list *list, struct iscsi_cmd *cmd)
{
	cmd->list = list;
	cmd->next = NULL;
	cmd->prev = list->tail;
	if (list->tail)
		list->tail->next = cmd;
	else
		list->head = cmd;
	list->tail = cmd;
	list->n++;
}

static void list_remove(struct iscsi_cmd *cmd)
{
	struct iscsi_cmd_list *list = cmd->list;

	if (cmd->prev)
		cmd->prev->next = cmd->next;
	else
		list->head = cmd->next;
	if (cmd->next)
		cmd->next->prev = cmd->prev;
	else
		list->tail = cmd->prev;
	list->n--;
	cmd->list = NULL;
}

struct iscsi_cmd *iscsi_cmd_get(struct iscsi_session *s)
{
	struct iscsi_cmd *cmd = s->idle.head;

	if (cmd) {
		list_remove(cmd);
		return cmd;
	}
	if (s->n_commands == ISCSI_MAX_COMMANDS)
		return NULL;
	cmd = calloc(1, sizeof(*cmd));
	if (cmd) {
		cmd->session = s;
		s->n_commands++;
	}
	return cmd;
}

void iscsi_cmd_put(struct iscsi_cmd *cmd)
{
	cmd->req = NULL;
	list_add(&cmd->session->idle, cmd);
}

void iscsi_cmd_free_all(struct iscsi_session *s)
{
	struct iscsi_cmd *cmd;

	while ((cmd = s->idle.head)) {
		list_remove(cmd);
		free(cmd);
	}
}

const uint8_t *iscsi_cmd_data(const struct iscsi_cmd *cmd, size_t *ret_len)
{
	*ret_len = cmd->task->datain.data ? (size_t)cmd->task->datain.size : 0;
	return cmd->task->datain.data;
}

static void answer_cmd(struct iscsi_cmd *cmd, const struct scsi_outcome *outcome)
{
	struct scsi_task *task = cmd->task;

	list_remove(cmd);
	cmd->answered(cmd, outcome);
	if (cmd->task == task)
		cmd->task = NULL;
	scsi_free_scsi_task(task);
}

/* Is anything not yet given to the socket? */
static bool has_output(struct iscsi_session *s)
{
	return iscsi_out_queue_length(s->context) > 0 ||
	       (iscsi_which_events(s->context) & EPOLLOUT);
}

static void on_scsi(struct iscsi_context *context, int status, void *data, void *opaque)
{
	struct iscsi_cmd *cmd = opaque;
	struct iscsi_session *s = cmd->session;
	const struct scsi_task *task = cmd->task;
	struct scsi_outcome outcome;
	size_t len;

	(void)data;
	if (s->in_destroy)
		return; /* take_down() answers it */
	if (status < 0 || status > 0xff) {
		if (status == SCSI_STATUS_CANCELLED)
			iscsi_session_fail(s, ISCSI_LOST,
					   "connection to %s: closed by the target",
					   s->portal);
		else
			iscsi_session_fail(s, ISCSI_LOST, "protocol error: %s",
					   iscsi_get_error(context));
		return;
	}
	/* The sense data stand behind two bytes of length. */
	len = task->datain.data && task->datain.size > 2 ? (size_t)task->datain.size - 2 :
							   0;
	scsi_judge((uint8_t)status, len ? task->datain.data + 2 : NULL, len, &outcome);
	/*
	 * A write that failed early may still have Data-Out PDUs in libiscsi's
	 * queue, which would be sent out of the task and of the buffer.  They
	 * must both stay until the queue is empty; meanwhile nothing is added.
	 */
	if (status != SCSI_STATUS_GOOD && cmd->scsi.direction == SCSI_DATA_OUT &&
	    has_output(s)) {
		cmd->outcome = outcome;
		list_remove(cmd);
		list_add(&s->held, cmd);
		return;
	}
	answer_cmd(cmd, &outcome);
}

static struct scsi_task *make_task(struct iscsi_cmd *cmd)
{
	static const int directions[] = { [SCSI_NO_DATA] = SCSI_XFER_NONE,
					  [SCSI_DATA_IN] = SCSI_XFER_READ,
					  [SCSI_DATA_OUT] = SCSI_XFER_WRITE };
	struct scsi_task *task =
		scsi_create_task(cmd->scsi.cdb_len, cmd->scsi.cdb,
				 directions[cmd->scsi.direction], (int)cmd->scsi.length);

	if (!task || !cmd->data)
		return task;
	/* libiscsi changes the vector while it sends; it lives in the command. */
	cmd->iov.iov_base = cmd->data;
	cmd->iov.iov_len = cmd->scsi.length;
	if (cmd->scsi.direction == SCSI_DATA_IN)
		scsi_task_set_iov_in(task, &cmd->iov, 1);
	else
		scsi_task_set_iov_out(task, &cmd->iov, 1);
	return task;
}

/* SAM-5 4.7: peripheral addressing below 256, flat space addressing above. */
static int lun_field(unsigned lun)
{
	return (int)(lun < 256 ? lun : 0x4000 | lun);
}

void iscsi_cmd_send(struct iscsi_cmd *cmd)
{
	struct iscsi_session *s = cmd->session;

	cmd->task = NULL;
	cmd->sent_ns = loop_now(s->loop);
	list_add(&s->in_flight, cmd);
	if (s->fault != ISCSI_NO_FAULT)
		return;
	s->sends_data |= cmd->scsi.direction == SCSI_DATA_OUT;
	cmd->task = make_task(cmd);
	if (!cmd->task)
		iscsi_session_fail(s, ISCSI_LOST, "out of memory");
	else if (iscsi_scsi_command_async(s->context, lun_field(s->set->lun), cmd->task,
					  on_scsi, NULL, cmd) < 0)
		iscsi_session_fail(s, ISCSI_LOST, "the target has ended the session");
}

void iscsi_cmd_send_later(struct iscsi_cmd *cmd, uint64_t delay_ns)
{
	struct iscsi_session *s = cmd->session;

	cmd->due_ns = loop_now(s->loop) + delay_ns;
	list_add(&s->again, cmd);
	if (s->retry_timer.index == 0 || s->retry_timer.when_ns > cmd->due_ns)
		loop_timer_set(s->loop, &s->retry_timer, cmd->due_ns);
}

/* In CHECKING the requests wait until the identity is known. */
static bool may_send(const struct iscsi_session *s, const struct iscsi_cmd *cmd)
{
	return !cmd->req || s->state == ISCSI_READY;
}

void iscsi_cmd_on_retry(struct loop_timer *timer)
{
	struct iscsi_session *s = ISCSI_SESSION_OF(timer, retry_timer);
	uint64_t now = loop_now(s->loop), next = UINT64_MAX;
	struct iscsi_cmd *cmd, *after;

	for (cmd = s->again.head; cmd; cmd = after) {
		after = cmd->next;
		if (!may_send(s, cmd))
			continue;
		if (cmd->due_ns > now) {
			next = cmd->due_ns < next ? cmd->due_ns : next;
			continue;
		}
		list_remove(cmd);
		iscsi_cmd_send(cmd);
	}
	if (next != UINT64_MAX)
		loop_timer_set(s->loop, &s->retry_timer, next);
	iscsi_session_settle(s);
}

void iscsi_cmd_lose_all(struct iscsi_cmd_list *list)
{
	struct iscsi_cmd *cmd;

	while ((cmd = list->head)) {
		list_remove(cmd);
		scsi_free_scsi_task(cmd->task);
		cmd->task = NULL;
		cmd->lost(cmd);
	}
}

void iscsi_cmd_release_held(struct iscsi_session *s)
{
	struct iscsi_cmd *cmd;

	if (s->held.n == 0 || has_output(s))
		return;
	while ((cmd = s->held.head)) {
		struct scsi_outcome outcome = cmd->outcome;

		answer_cmd(cmd, &outcome);
	}
}

/* Requests. */

void iscsi_session_answer(struct iscsi_session *s, struct bd_req *req, int error)
{
	atomic_fetch_sub_explicit(&s->n_requests, 1, memory_order_relaxed);
	req->done(req, error);
	bd_iscsi_unref(s->device);
}

void iscsi_session_lose_queue(struct iscsi_session *s)
{
	struct bd_req *req;

	while ((req = s->queue)) {
		s->queue = req->next;
		if (!s->queue)
			s->queue_tail = &s->queue;
		iscsi_session_answer(s, req, -ENOTCONN);
	}
}

void iscsi_session_start_queued(struct iscsi_session *s)
{
	struct iscsi_cmd *cmd;
	struct bd_req *req;

	while (s->queue && s->state == ISCSI_READY && s->held.n == 0 &&
	       s->fault == ISCSI_NO_FAULT && (cmd = iscsi_cmd_get(s))) {
		req = s->queue;
		s->queue = req->next;
		if (!s->queue)
			s->queue_tail = &s->queue;
		iscsi_request_start(cmd, req);
	}
}

static void take_request(struct iscsi_session *s, struct bd_req *req)
{
	if (s->state != ISCSI_READY && s->state != ISCSI_CHECKING) {
		iscsi_session_answer(s, req, -ENOTCONN);
		return;
	}
	req->next = NULL;
	*s->queue_tail = req;
	s->queue_tail = &req->next;
}

/* The posted half of iscsi_session_submit(): one call for all that was pushed
 * since the list was empty, so that they are sent together. */
void iscsi_session_on_incoming(struct loop_call *call)
{
	struct iscsi_session *s = ISCSI_SESSION_OF(call, incoming_call);
	struct bd_iscsi *device = s->device;
	struct bd_req *stack, *req, *list = NULL;

	bd_iscsi_ref(device);
	stack = atomic_exchange(&s->incoming, NULL);
	while ((req = stack)) {
		stack = req->next;
		req->next = list;
		list = req;
	}
	while ((req = list)) {
		list = req->next;
		take_request(s, req);
	}
	iscsi_session_settle(s);
	bd_iscsi_unref(device);
}

void iscsi_session_submit(struct iscsi_session *s, struct bd_req *req)
{
	struct bd_req *head;

	bd_iscsi_ref(s->device);
	atomic_fetch_add_explicit(&s->n_requests, 1, memory_order_relaxed);
	if (loop_is_current(s->loop) && s->busy) {
		take_request(s, req);
		return;
	}
	loop_note_handover(s->loop);
	head = atomic_load_explicit(&s->incoming, memory_order_relaxed);
	do {
		req->next = head;
	} while (!atomic_compare_exchange_weak(&s->incoming, &head, req));
	if (!head)
		loop_post(s->loop, &s->incoming_call);
}
