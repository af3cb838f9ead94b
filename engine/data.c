/* SPDX-License-Identifier: BSD-2-Clause */

/* Open files of elements' data: what the kernel's requests go through. */

#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "conf/cleanup.h"
#include "conf/setting.h"

/* A reference to the image of an element, whose files are opened if it is complete
 * and nobody had it open; NULL: it has none, or its bytes are a volume's. */
static int get_image(struct engine *e, uint64_t id, struct image **ret_image)
{
	struct image_params params;
	struct pool *pool;
	struct element *el;

	engine_lock(e);
	el = object_by_id(e, ENGINE_ELEMENT, id);
	if (!el || el->image || el->volume || !el->complete || !el->pool || !e->workers) {
		*ret_image = el ? el->image : NULL;
		if (*ret_image)
			image_ref(*ret_image);
		engine_unlock(e);
		return 0;
	}
	element_image_params(el, &params);
	pool = el->pool->pool;
	engine_unlock(e);
	return image_open(&e->dataops, pool, &params, ret_image);
}

bool element_is_read_only(const struct element *el)
{
	return el->read_only ||
	       (el->target_of && relation_setting(el->target_of->rel, "ReadOnly") ==
					 SETTING_READ_ONLY_TARGET);
}

/* Others write a shared element unseen, and see nothing of our caches. */
static bool is_writable(const struct element *el)
{
	return (el->exclusive || el->origin == STORE_ORIGIN_REPLICA) &&
	       !element_is_read_only(el);
}

/* The complete image was opened: it becomes the element's. */
static void adopt_image_locked(struct element *el, struct image **image)
{
	el->image = move_ptr(*image);
	if (el->target_of)
		pair_watch_complete(el->target_of, el->image);
}

/* Fills a handle; the lock is held.  *image: of get_image(), which by now may have
 * been closed by others (its last handle, the end of its copy); NULL once taken. */
static int connect_locked(struct engine *e, uint64_t element, struct image **image,
			  struct engine_handle *h)
{
	struct element *el = object_by_id(e, ENGINE_ELEMENT, element);

	if (!el)
		return -ENOENT;
	if (h->write && !is_writable(el))
		return -EROFS;
	/* It is about to be overwritten. */
	if (h->write && el->target_call && !el->target_of)
		return -EBUSY;
	/* A complete image that others have as their source is changed through the
	 * volume that they see. */
	if (!el->image && !el->volume && el->complete)
		adopt_image_locked(el, image);
	if (!el->image && !el->volume && el->origin != STORE_ORIGIN_REPLICA)
		return -EIO;
	/* No device comes before it is configured anew. */
	if (!el->image && el->volume && !el->bd && *el->error)
		return -EIO;
	h->engine = e;
	h->element = el;
	h->io_timeout_ms = el->io_timeout_ms;
	/* A target without an instant has neither: EIO, until it has one. */
	if (el->image) {
		h->image = el->image;
		image_ref(h->image);
	} else if (el->volume && !(element_is_lun(el) && el->target_of)) {
		h->volume = el->volume;
		volume_ref(h->volume);
	}
	if (h->own) {
		TAILQ_INSERT_TAIL(&el->own_handles, h, link);
		return 0;
	}
	TAILQ_INSERT_TAIL(&el->handles, h, link);
	el->n_handles++;
	e->n_handles++;
	return 0;
}

static int open_data(struct engine *e, uint64_t element, bool write, bool own, pid_t pid,
		     struct engine_handle **ret_handle)
{
	struct engine_handle *h = calloc(1, sizeof(*h));
	struct image *image;
	int r;

	if (!h)
		return -ENOMEM;
	h->pid = pid;
	h->write = write;
	h->own = own;
	pthread_mutex_init(&h->lock, NULL);
	r = get_image(e, element, &image);
	if (r >= 0) {
		engine_lock(e);
		r = connect_locked(e, element, &image, h);
		engine_unlock(e);
		image_unref(image);
	}
	if (r < 0) {
		pthread_mutex_destroy(&h->lock);
		free(h);
		return r;
	}
	*ret_handle = h;
	return 0;
}

int engine_data_open(struct engine *e, uint64_t element, bool write, pid_t pid,
		     struct engine_handle **ret_handle)
{
	return open_data(e, element, write, false, pid, ret_handle);
}

int element_open_data(struct engine *e, uint64_t element,
		      struct engine_handle **ret_handle)
{
	return open_data(e, element, false, true, 0, ret_handle);
}

bool element_needs_image(const struct element *el)
{
	return !TAILQ_EMPTY(&el->handles) || !TAILQ_EMPTY(&el->own_handles);
}

static void disconnect_locked(struct engine_handle *h)
{
	struct element *el = h->element;

	if (h->own) {
		TAILQ_REMOVE(&el->own_handles, h, link);
		return;
	}
	TAILQ_REMOVE(&el->handles, h, link);
	el->n_handles--;
	h->engine->n_handles--;
}

void engine_data_close(struct engine_handle *h)
{
	struct engine *e = h->engine;
	struct image *idle = NULL;
	struct element *el;

	engine_lock(e);
	el = h->element;
	if (el) {
		disconnect_locked(h);
		if (!element_needs_image(el) && el->complete && el->image &&
		    !element_is_lun(el)) {
			el->allocated = image_allocated(el->image);
			element_note_changed(el);
			element_count_changes(el);
			idle = move_ptr(el->image);
		}
	}
	engine_unlock(e);
	image_unref(idle);
	image_unref(h->image);
	volume_unref(h->volume);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static void switch_handle(struct engine_handle *h)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);

	const struct element *el = h->element;

	image_unref(h->image);
	h->image = el->image;
	if (h->image)
		image_ref(h->image);
	if (!element_is_lun(el))
		return;
	volume_unref(h->volume);
	h->volume = el->image || el->target_of ? NULL : el->volume;
	if (h->volume)
		volume_ref(h->volume);
}

void element_switch_handles(struct element *el)
{
	struct engine_handle *h;

	TAILQ_FOREACH(h, &el->handles, link)
		switch_handle(h);
	TAILQ_FOREACH(h, &el->own_handles, link)
		switch_handle(h);
}

struct open_list {
	struct strbuf *b;
	unsigned n;
};

static void add_open(void *thing, void *opaque)
{
	const struct element *el = thing;
	struct open_list *list = opaque;
	char text[192];

	if (!el->n_handles)
		return;
	element_describe_handles(el, text, sizeof(text));
	strbuf_addf(list->b, "%s\n", text);
	list->n++;
}

unsigned engine_open_handles(struct engine *e, struct strbuf *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct open_list list = { b, 0 };

	if (e->n_handles)
		index_each(&e->by_id[ENGINE_ELEMENT], add_open, &list);
	return list.n;
}

/* What a handle's requests go to, with a reference. */
static void get_target(struct engine_handle *h, struct image **ret_image,
		       struct volume **ret_volume)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);

	*ret_image = h->image;
	*ret_volume = h->image ? NULL : h->volume;
	if (*ret_image)
		image_ref(*ret_image);
	if (*ret_volume)
		volume_ref(*ret_volume);
}

ssize_t engine_data_try_read(struct engine_handle *h, void *buf, size_t len,
			     uint64_t offset)
{
	struct volume *volume;
	struct image *image;
	ssize_t n = -EAGAIN;

	get_target(h, &image, &volume);
	if (image)
		n = image_try_read(image, buf, len, offset);
	image_unref(image);
	volume_unref(volume);
	return n;
}

void engine_data_submit(struct engine_io *io)
{
	struct engine_handle *h = io->handle;
	bool change = io->op == ENGINE_IO_WRITE || io->op == ENGINE_IO_ZERO;
	struct volume *volume;
	struct image *image;

	io->own = h->own;
	get_target(h, &image, &volume);
	if (change && !h->write)
		io->done(io, -EROFS, NULL, 0);
	else if (image)
		image_io(image, io, h->io_timeout_ms);
	else if (volume)
		volume_io(volume, io, h->io_timeout_ms);
	else
		io->done(io, -EIO, NULL, 0);
	image_unref(image);
	volume_unref(volume);
}
