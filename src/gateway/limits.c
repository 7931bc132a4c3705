#include "gateway/limits.h"

#include "base/alloc.h"

#include <errno.h>
#include <netinet/in.h>

struct tl_limits_address {
    struct tl_map_node node;
    uint32_t n;
    uint8_t key_n;
    uint8_t key[16];
};

static struct tl_bytes address_key(const struct tl_map_node *node)
{
    const struct tl_limits_address *a = TL_CONTAINER(node, const struct tl_limits_address, node);
    return tl_bytes(a->key, a->key_n);
}

int tl_limits_init(struct tl_limits *limits, uint32_t connections_max,
                   uint32_t address_connections_max)
{
    *limits = (struct tl_limits){.connections_max = connections_max,
                                 .address_connections_max = address_connections_max};
    int r = pthread_mutex_init(&limits->lock, NULL);
    if (r != 0)
        return -r;
    return tl_map_init(&limits->addresses, address_key);
}

void tl_limits_deinit(struct tl_limits *limits)
{
    tl_map_deinit(&limits->addresses);
    pthread_mutex_destroy(&limits->lock);
}

/* The bytes of an IP address; a mapped IPv4 one counts as IPv4. */
static struct tl_bytes peer_key(const struct sockaddr_storage *peer)
{
    const void *any = peer;
    if (peer->ss_family == AF_INET)
        return tl_bytes(&((const struct sockaddr_in *)any)->sin_addr, 4);
    if (peer->ss_family != AF_INET6)
        return tl_bytes("", 0);
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)any)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(v6))
        return tl_bytes(v6->s6_addr + 12, 4);
    return tl_bytes(v6->s6_addr, 16);
}

static int take_address(struct tl_limits *limits, struct tl_bytes key,
                        struct tl_limits_address **ret_address)
{
    struct tl_map_node *node = tl_map_find(&limits->addresses, key);
    struct tl_limits_address *address =
        node ? TL_CONTAINER(node, struct tl_limits_address, node) : NULL;
    if (address && address->n >= limits->address_connections_max)
        return -EDQUOT;
    if (!address) {
        address = tl_zalloc(sizeof *address);
        if (!address)
            return -ENOMEM;
        address->key_n = (uint8_t)key.n;
        memcpy(address->key, key.p, key.n);
        tl_map_add(&limits->addresses, &address->node);
    }
    address->n++;
    *ret_address = address;
    return 0;
}

int tl_limits_take(struct tl_limits *limits, const struct sockaddr_storage *peer,
                   struct tl_limits_address **ret_address)
{
    *ret_address = NULL;
    int r = 0;
    if (limits->address_connections_max > 0) {
        pthread_mutex_lock(&limits->lock);
        r = take_address(limits, peer_key(peer), ret_address);
        pthread_mutex_unlock(&limits->lock);
    }
    if (r < 0)
        return r;
    /* Relaxed: a count of its own, nothing is published with it. */
    uint32_t before = atomic_fetch_add_explicit(&limits->connections_n, 1, memory_order_relaxed);
    if (before < limits->connections_max)
        return 0;
    tl_limits_give(limits, *ret_address);
    *ret_address = NULL;
    return -EBUSY;
}

void tl_limits_give(struct tl_limits *limits, struct tl_limits_address *address)
{
    atomic_fetch_sub_explicit(&limits->connections_n, 1, memory_order_relaxed);
    if (!address)
        return;
    pthread_mutex_lock(&limits->lock);
    if (--address->n == 0) {
        tl_map_remove(&limits->addresses, &address->node);
        tl_free(address);
    }
    pthread_mutex_unlock(&limits->lock);
}

bool tl_limits_take_input(struct tl_limits *limits, size_t n)
{
    /* Relaxed: a count of its own. */
    uint64_t before = atomic_fetch_add_explicit(&limits->input_bytes, n, memory_order_relaxed);
    if (limits->input_bytes_max == 0 || before + n <= limits->input_bytes_max)
        return true;
    tl_limits_give_input(limits, n);
    return false;
}

void tl_limits_give_input(struct tl_limits *limits, size_t n)
{
    atomic_fetch_sub_explicit(&limits->input_bytes, n, memory_order_relaxed);
}
