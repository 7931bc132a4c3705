#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

static int parse_port(struct tl_bytes text, uint16_t *ret_port)
{
    unsigned port = 0;
    if (text.n < 1 || text.n > 5)
        return -EINVAL;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return -EINVAL;
        port = port * 10 + (unsigned)(text.p[i] - '0');
    }
    if (port > UINT16_MAX)
        return -EINVAL;
    *ret_port = (uint16_t)port;
    return 0;
}

/* The last four bytes, which are the IPv4 address of a mapped one. */
static struct in_addr mapped_v4(const struct in6_addr *host)
{
    struct in_addr v4;
    memcpy(&v4, &host->s6_addr[12], sizeof(v4));
    return v4;
}

static void set_v4(struct tl_address *address, struct in_addr host)
{
    address->sa.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = host};
    address->n = sizeof(address->sa.v4);
}

static void set_v6(struct tl_address *address, struct in6_addr host)
{
    address->sa.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = host};
    address->n = sizeof(address->sa.v6);
}

/* A socket for IPv6 alone cannot be bound to a mapped address. */
static void set_v6_or_mapped(struct tl_address *address, struct in6_addr host)
{
    if (IN6_IS_ADDR_V4MAPPED(&host))
        set_v4(address, mapped_v4(&host));
    else
        set_v6(address, host);
}

static int parse_host(struct tl_bytes host, struct tl_address *address)
{
    if (host.n == 0) {
        set_v6(address, in6addr_any);
        address->all = true;
        return 0;
    }
    if (tl_bytes_ieq(host, TL_LIT("localhost"))) {
        set_v4(address, (struct in_addr){.s_addr = htonl(INADDR_LOOPBACK)});
        return 0;
    }
    bool brackets = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (brackets)
        host = tl_bytes(host.p + 1, host.n - 2);
    char text[INET6_ADDRSTRLEN];
    if (host.n >= sizeof(text) || memchr(host.p, 0, host.n) != NULL)
        return -EINVAL;
    memcpy(text, host.p, host.n);
    text[host.n] = 0;

    struct in_addr v4;
    struct in6_addr v6;
    if (brackets && inet_pton(AF_INET6, text, &v6) == 1)
        set_v6_or_mapped(address, v6);
    else if (!brackets && inet_pton(AF_INET, text, &v4) == 1)
        set_v4(address, v4);
    else
        return -EINVAL;
    return 0;
}

int tl_address_parse(struct tl_bytes text, struct tl_address *ret_address)
{
    size_t colon = text.n;
    while (colon > 0 && text.p[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return -EINVAL;
    struct tl_address address = {0};
    uint16_t port;
    if (parse_port(tl_bytes_skip(text, colon), &port) < 0 ||
        parse_host(tl_bytes(text.p, colon - 1), &address) < 0)
        return -EINVAL;
    tl_address_set_port(&address, port);
    *ret_address = address;
    return 0;
}

uint16_t tl_address_port(const struct tl_address *address)
{
    return ntohs(address->sa.any.sa_family == AF_INET6 ? address->sa.v6.sin6_port
                                                       : address->sa.v4.sin_port);
}

void tl_address_set_port(struct tl_address *address, uint16_t port)
{
    if (address->sa.any.sa_family == AF_INET6)
        address->sa.v6.sin6_port = htons(port);
    else
        address->sa.v4.sin_port = htons(port);
}

static bool is_loopback_v4(struct in_addr host)
{
    return ntohl(host.s_addr) >> 24 == IN_LOOPBACKNET;
}

bool tl_address_is_loopback(const struct tl_address *address)
{
    if (address->sa.any.sa_family == AF_INET)
        return is_loopback_v4(address->sa.v4.sin_addr);
    return IN6_IS_ADDR_LOOPBACK(&address->sa.v6.sin6_addr);
}

/* with_port: an IPv6 address gets its brackets too. */
static const char *print_v4(struct in_addr host, uint16_t port, bool with_port,
                            char out[TL_ADDRESS_TEXT_N])
{
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &host, text, sizeof(text));
    if (with_port)
        snprintf(out, TL_ADDRESS_TEXT_N, "%s:%u", text, port);
    else
        snprintf(out, TL_ADDRESS_TEXT_N, "%s", text);
    return out;
}

static const char *print_v6(const struct in6_addr *host, uint16_t port, bool with_port,
                            char out[TL_ADDRESS_TEXT_N])
{
    char text[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, host, text, sizeof(text));
    if (with_port)
        snprintf(out, TL_ADDRESS_TEXT_N, "[%s]:%u", text, port);
    else
        snprintf(out, TL_ADDRESS_TEXT_N, "%s", text);
    return out;
}

const char *tl_address_text(const struct tl_address *address, char out[TL_ADDRESS_TEXT_N])
{
    uint16_t port = tl_address_port(address);
    if (address->all) {
        snprintf(out, TL_ADDRESS_TEXT_N, ":%u", port);
        return out;
    }
    if (address->sa.any.sa_family == AF_INET)
        return print_v4(address->sa.v4.sin_addr, port, true, out);
    return print_v6(&address->sa.v6.sin6_addr, port, true, out);
}

static const char *print_peer(const struct sockaddr_storage *peer, bool with_port,
                              char out[TL_ADDRESS_TEXT_N])
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (peer->ss_family == AF_INET) {
        memcpy(&v4, peer, sizeof(v4));
        return print_v4(v4.sin_addr, ntohs(v4.sin_port), with_port, out);
    }
    if (peer->ss_family == AF_INET6) {
        memcpy(&v6, peer, sizeof(v6));
        uint16_t port = ntohs(v6.sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
            return print_v4(mapped_v4(&v6.sin6_addr), port, with_port, out);
        return print_v6(&v6.sin6_addr, port, with_port, out);
    }
    snprintf(out, TL_ADDRESS_TEXT_N, "local");
    return out;
}

const char *tl_address_peer(const struct sockaddr_storage *peer, char out[TL_ADDRESS_TEXT_N])
{
    return print_peer(peer, true, out);
}

const char *tl_address_peer_host(const struct sockaddr_storage *peer, char out[TL_ADDRESS_TEXT_N])
{
    return print_peer(peer, false, out);
}
