# A client whose login is libpq 18's own: psycopg, whose binary package brings libpq, and libpq's hook for tokens (PQsetAuthDataHook),
# which gives what a person's browser would have fetched. Packages come without the module that asks a provider for a code.
#
# Arguments: the connection string, the statement. The token is in TOKEN. One line of JSON on standard output says what libpq asked
# for, and what came of the login.
import ctypes
import glob
import json
import os
import sys

import psycopg
import psycopg_binary


class Request(ctypes.Structure):
    # PGoauthBearerRequest of libpq-fe.h.
    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("start", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


# PQAUTHDATA_OAUTH_BEARER_TOKEN.
BEARER_TOKEN = 1
# libpq copies it after the hook has returned.
token = os.environ["TOKEN"].encode()
asked = []


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))
def hook(kind, _connection, request):
    if kind != BEARER_TOKEN:
        return 0
    wanted = request.contents
    asked.append({"discovery": wanted.openid_configuration.decode(), "scope": (wanted.scope or b"").decode()})
    wanted.token = token
    return 1


home = os.path.join(os.path.dirname(psycopg_binary.__file__), os.pardir, "psycopg_binary.libs")
libpq = ctypes.CDLL(glob.glob(os.path.join(home, "libpq-*.so*"))[0])
libpq.PQsetAuthDataHook(hook)
connection, sql = sys.argv[1:]
told = {"libpq": psycopg.pq.version(), "asked": asked, "rows": None, "error": None}
try:
    with psycopg.connect(connection, autocommit=True) as client:
        told["rows"] = client.execute(sql).fetchall()
except psycopg.Error as error:
    told["error"] = str(error)
print(json.dumps(told))
