#include "net/conn.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

void tl_conn_tune(struct tl_conn *conn, uint32_t user_timeout_ms)
{
    if (tl_conn_is_closed(conn))
        return;
    /* Fails on what is not TCP, and then there is nothing to tune. */
    (void)setsockopt(conn->stream.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
                     sizeof(user_timeout_ms));
}
