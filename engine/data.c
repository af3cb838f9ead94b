/* SPDX-License-Identifier: BSD-2-Clause */

/* Open files of elements' data: what the kernel's requests go through. */

#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "conf/cleanup.h"

/* A reference to the image of an element, whose files are opened if it is complete
 * and nobody had it open; NULL: it has none. */
static int get_image(struct engine *e, uint64_t id, struct image **ret_image)
{
	struct image_params params;
	struct pool *pool;
	struct element *el;

	engine_lock(e);
	el = object_by_id(e, ENGINE_ELEMENT, id);
	if (!el || el->image || !el->complete || !el->pool || !e->workers) {
		*ret_image = el ? el->image : NULL;
		if (*ret_image)
			image_ref(*ret_image);
		engine_unlock(e);
		return 0;
	}
	params = (struct image_params){ .id = id,
					.size = el->size,
					.generation = el->generation,
					.complete = true };
	pool = el->pool->pool;
	engine_unlock(e);
	return image_open(&e->dataops, pool, &params, ret_image);
}

/* Fills a handle; the lock is held.  *image: of get_image(), which by now may have
 * been closed by others (its last handle, the end of its copy); NULL once taken. */
static int connect_locked(struct engine *e, uint64_t element, struct image **image,
			  struct engine_handle *h)
{
	struct element *el = object_by_id(e, ENGINE_ELEMENT, element);

	if (!el)
		return -ENOENT;
	if (!el->image && el->complete)
		el->image = move_ptr(*image);
	if (!el->image && !el->volume)
		return -EIO;
	h->engine = e;
	h->element = el;
	h->io_timeout_ms = el->io_timeout_ms;
	if (el->image) {
		h->image = el->image;
		image_ref(h->image);
	} else {
		h->volume = el->volume;
		volume_ref(h->volume);
	}
	TAILQ_INSERT_TAIL(&el->handles, h, link);
	el->n_handles++;
	e->n_handles++;
	return 0;
}

int engine_data_open(struct engine *e, uint64_t element, bool write, pid_t pid,
		     struct engine_handle **ret_handle)
{
	struct engine_handle *h;
	struct image *image;
	int r;

	if (write)
		return -EROFS;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->pid = pid;
	r = get_image(e, element, &image);
	if (r >= 0) {
		engine_lock(e);
		r = connect_locked(e, element, &image, h);
		engine_unlock(e);
		image_unref(image);
	}
	if (r < 0) {
		free(h);
		return r;
	}
	*ret_handle = h;
	return 0;
}

void engine_data_close(struct engine_handle *h)
{
	struct engine *e = h->engine;
	struct image *idle = NULL;
	struct element *el;

	engine_lock(e);
	el = h->element;
	if (el) {
		TAILQ_REMOVE(&el->handles, h, link);
		e->n_handles--;
		if (!--el->n_handles && el->complete && el->image) {
			el->allocated = image_allocated(el->image);
			idle = move_ptr(el->image);
		}
	}
	engine_unlock(e);
	image_unref(idle);
	image_unref(h->image);
	volume_unref(h->volume);
	free(h);
}

struct open_list {
	struct strbuf *b;
	unsigned n;
};

static void add_open(void *thing, void *opaque)
{
	const struct element *el = thing;
	struct open_list *list = opaque;
	char text[160];

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

ssize_t engine_data_try_read(struct engine_handle *h, void *buf, size_t len,
			     uint64_t offset)
{
	return h->image ? image_try_read(h->image, buf, len, offset) : -EAGAIN;
}

void engine_data_submit(struct engine_io *io)
{
	struct engine_handle *h = io->handle;

	if (h->image)
		image_io(h->image, io, h->io_timeout_ms);
	else
		volume_io(h->volume, io, h->io_timeout_ms);
}
