/*
 * A story that touches all that a gateway does, to be told with something failing in it: clients of
 * every kind subscribe, messages of every kind are published, one client leaves politely, one by
 * RST, one comes back and resumes, one talks. The clients check what they get as they get it.
 */
#ifndef TESTS_GATEWAY_SCENARIO_H
#define TESTS_GATEWAY_SCENARIO_H

#include "gateway_fixture.h"

struct scenario {
    size_t big_n;           /* bytes of the big messages */
    void (*fault)(bool on); /* NULL: nothing fails */
    /* Results: everybody got all that there was, and how. */
    bool complete;
    /* Its own. */
    struct gw *gw;
    struct feed feed;
    struct client *ws[2], *sse[3], *duplex, *all, *publisher;
};

/*
 * Tell it. Without a fault everything has to be perfect. With one, clients may be refused or cut,
 * but whoever stays has all that a publisher was promised or was told a gap, and once the fault is
 * over newcomers are served. The clients are gone afterwards.
 */
void scenario_run(struct scenario *sc, struct gw *gw);

#endif
