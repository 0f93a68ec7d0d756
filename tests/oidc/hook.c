/*
 * Gives psql 18 a token by libpq's hook, where a person would use a browser: loaded beside it (LD_PRELOAD), it registers the hook
 * as a program of its own would. The token is in TOKEN. Nothing of libpq is included: the few names are those of libpq-fe.h.
 */
#include <stdio.h>
#include <stdlib.h>

typedef struct
{
	const char *openid_configuration;
	const char *scope;
	void	   *async;
	void	   *cleanup;
	char	   *token;
	void	   *user;
} Request;

enum { BEARER_TOKEN = 1 };		/* PQAUTHDATA_OAUTH_BEARER_TOKEN */

typedef int (*Hook) (int kind, void *connection, void *data);
/* Weak: the programs that start psql are given this library, too, and have no libpq. */
extern void PQsetAuthDataHook(Hook hook) __attribute__((weak));

static int
give_token(int kind, void *connection, void *data)
{
	Request    *request = data;

	(void) connection;
	if (kind != BEARER_TOKEN)
		return 0;
	fprintf(stderr, "asked for a token of %s\n", request->openid_configuration);
	request->token = getenv("TOKEN");
	return request->token ? 1 : 0;
}

__attribute__((constructor)) static void
register_hook(void)
{
	if (PQsetAuthDataHook)
		PQsetAuthDataHook(give_token);
}
