/* The hub's part of an inspection: the channel's life and its log. */
#include "gateway/hub_state.h"
#include "gateway/inspect.h"

static void look(const struct tl_channel *channel, struct tl_inspect *inspect)
{
    const struct tl_log *log = &channel->log;
    inspect->found = true;
    inspect->state = channel->life.state;
    inspect->head = tl_log_position(log);
    inspect->oldest = tl_log_oldest(log);
    inspect->messages = log->head.msg - log->tail.msg;
    inspect->bytes = log->bytes;
}

void tl_hub_on_inspect(struct tl_mail *mail)
{
    struct tl_inspect *inspect = TL_CONTAINER(mail, struct tl_inspect, mail);
    struct tl_map_node *node =
        tl_map_find(&inspect->hub->channels, tl_bytes(inspect->name, inspect->name_n));
    if (node)
        look(TL_CONTAINER(node, struct tl_channel, node), inspect);
    tl_inspect_pass_on(inspect);
}

struct tl_worker *tl_hub_worker(const struct tl_hub *hub, unsigned i)
{
    return i < hub->workers_n ? hub->workers[i] : NULL;
}
