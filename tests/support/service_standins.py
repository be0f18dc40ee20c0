"""Stand-ins for the five HTTP services, on the loopback. They answer like the real ones, errors included.

The clients' docstrings name the sources of the shapes. The data is invented.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

__all__ = ["KAKAO_KEY", "PORTAL_KEY", "Fault", "Request", "Service", "Services"]

Service = Literal["kakao", "kma", "keco", "bulk_waste", "recyclable_price"]
Fault = Literal["down", "slow", "drip", "garbage", "500"]

KAKAO_KEY = "0123456789abcdef0123456789abcdef"
# The decoded form that the portal shows: base64, with characters that need quoting in a query string.
PORTAL_KEY = "sErv1ce+key/of=the+portal/0123456789=="

_PATHS: dict[str, Service] = {
    "/v2/local/search/keyword.json": "kakao",
    "/1360000/VilageFcstInfoService_2.0/getVilageFcst": "kma",
    "/B552584/kecoapi/reutilCltRtrvlBzentyService/getReutilCltRtrvlBzentyInfo": "keco",
    "/openapi/tn_pubr_public_lar_was_fee_api": "bulk_waste",
    "/B552584/reutilMrktPrcExmn/getlist": "recyclable_price",
}
_PREFIXES: dict[Service, tuple[str, str]] = {
    "kakao": ("KAKAO_REST_API_KEY", "ECO2_KAKAO_URL"),
    "kma": ("KMA_SERVICE_KEY", "ECO2_KMA_URL"),
    "keco": ("KECO_SERVICE_KEY", "ECO2_KECO_URL"),
    "bulk_waste": ("BULK_WASTE_SERVICE_KEY", "ECO2_BULK_WASTE_URL"),
    "recyclable_price": ("RECYCLABLE_PRICE_SERVICE_KEY", "ECO2_RECYCLABLE_PRICE_URL"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One received request."""

    service: Service
    params: Mapping[str, str]
    authorization: str


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    content: bytes
    content_type: str = "application/json;charset=UTF-8"
    content_encoding: str = "identity"


class Services:
    """Answers the clients during the block and stores their requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._faults: dict[Service, Fault] = {}
        self._fixed_answers: dict[Service, _Reply] = {}
        self._released = threading.Event()

    def __enter__(self) -> Self:
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.recover()
        self._http.shutdown()
        self._thread.join()
        # Waits for the running answers.
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def environment(self) -> dict[str, str]:
        """Return the variables that direct all clients to these stand-ins."""
        variables = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        for service, (key, url) in _PREFIXES.items():
            variables |= {key: KAKAO_KEY if service == "kakao" else PORTAL_KEY, url: self.url}
        return variables

    def fail(self, service: Service, fault: Fault) -> None:
        """Let a service fail until :meth:`recover`. ``down`` closes the connection; ``slow`` and ``drip`` never end."""
        self._faults[service] = fault

    def set_answer(
        self,
        service: Service,
        content: bytes,
        *,
        status: int = 200,
        content_type: str = "application/json",
        content_encoding: str = "identity",
    ) -> None:
        """Let a service give this answer to every request until :meth:`recover`."""
        self._fixed_answers[service] = _Reply(status, content, content_type, content_encoding)

    def recover(self) -> None:
        """Let every service work again and end the hanging answers."""
        self._faults.clear()
        self._fixed_answers.clear()
        self._released.set()
        self._released = threading.Event()

    def answer(self, request: Request, send: Callable[[_Reply], None], drip: Callable[[], None]) -> None:
        """Answer one request. Called on the connection's thread."""
        self.requests.append(request)
        fault, fixed_answer, released = (
            self._faults.get(request.service),
            self._fixed_answers.get(request.service),
            self._released,
        )
        if fault == "down":
            return
        if fault == "slow":
            released.wait()
            return
        if fault == "drip":
            while not released.wait(0.02):
                drip()
            return
        if fault == "garbage":
            send(_Reply(200, b"<html><title>Service maintenance</title></html>", "text/html"))
        elif fault == "500":
            send(_Reply(500, b"Unexpected errors", "text/plain"))
        else:
            send(fixed_answer or _ANSWERS[request.service](request))


# Kakao Local.

_PLACES = (
    # name, category, address, road address, phone, longitude, latitude, more keywords
    (
        "강남역 2호선",
        "교통,수송 > 지하철,전철 > 수도권2호선",
        "서울 강남구 역삼동 858",
        "서울 강남구 강남대로 지하 396",
        "02-6110-2221",
        127.02800140627488,
        37.49808633653005,
        "지하철",
    ),
    (
        "역삼1동주민센터 투명페트병 수거함",
        "사회,공공기관 > 행정기관 > 주민센터",
        "서울 강남구 역삼동 829-20",
        "서울 강남구 역삼로7길 16",
        "02-3423-6600",
        127.03312,
        37.49540,
        "강남역 페트병 분리수거함 재활용 수거",
    ),
    (
        "네프론 서초2동",
        "서비스,산업 > 환경 > 재활용",
        "서울 서초구 서초동 1331",
        "서울 서초구 서초대로70길 51",
        "",
        127.02514,
        37.49243,
        "강남역 페트병 캔 분리수거함 수거함 재활용 무인회수기",
    ),
    (
        "서울특별시청",
        "사회,공공기관 > 행정기관 > 시청",
        "서울 중구 태평로1가 31",
        "서울 중구 세종대로 110",
        "02-120",
        126.97843,
        37.56668,
        "서울 시청",
    ),
    (
        "해운대구청",
        "사회,공공기관 > 행정기관 > 구청",
        "부산 해운대구 중동 1378-95",
        "부산 해운대구 중동2로 11",
        "051-749-4000",
        129.16360,
        35.16313,
        "해운대 부산",
    ),
)


def _kakao(request: Request) -> _Reply:
    if request.authorization != f"KakaoAK {KAKAO_KEY}":
        key = request.authorization.removeprefix("KakaoAK ")
        # The real service repeats the key.
        return _json({"errorType": "AccessDeniedError", "message": f"wrong appKey({key}) format"}, status=401)
    params = request.params
    if not params.get("query"):
        return _json({"errorType": "MissingParameter", "message": "query parameter required"}, status=400)
    words = params["query"].split()
    ranked = sorted(
        ((sum(word in " ".join(map(str, place)) for word in words), place) for place in _PLACES),
        key=lambda pair: -pair[0],
    )
    documents = [_document(place, params) for hits, place in ranked if hits]
    if "radius" in params:
        documents = [document for document in documents if int(document["distance"]) <= int(params["radius"])]
    if params.get("sort") == "distance":
        documents.sort(key=lambda document: int(document["distance"]))
    shown = documents[: int(params.get("size", 15))]
    meta = {
        "is_end": len(shown) == len(documents),
        "pageable_count": len(documents),
        "same_name": {"keyword": params["query"], "region": [], "selected_region": ""},
        "total_count": len(documents),
    }
    return _json({"documents": shown, "meta": meta})


def _document(place: tuple[Any, ...], params: Mapping[str, str]) -> dict[str, str]:
    name, category, address, road_address, phone, x, y, _ = place
    distance = ""
    if "x" in params:
        east = (x - float(params["x"])) * 111_320 * math.cos(math.radians(y))
        distance = str(round(math.hypot(east, (y - float(params["y"])) * 110_574)))
    number = str(8_000_000 + _PLACES.index(place))
    return {
        "address_name": address,
        "category_group_code": "",
        "category_group_name": "",
        "category_name": category,
        "distance": distance,
        "id": number,
        "phone": phone,
        "place_name": name,
        "place_url": f"http://place.map.kakao.com/{number}",
        "road_address_name": road_address,
        "x": str(x),
        "y": str(y),
    }


# The public data portal.


def _kma(request: Request) -> _Reply:
    params = request.params
    base = datetime.strptime(params["base_date"] + params["base_time"], "%Y%m%d%H%M")  # noqa: DTZ007
    if base.hour % 3 != 2 or base.minute:
        return _portal("03", "NO_DATA")
    items = []
    for ahead in range(1, 73):
        at = base + timedelta(hours=ahead)
        rainy = at.hour in {15, 16, 17}
        values = {
            "TMP": str(10 + 8 * (6 <= at.hour <= 18)),
            "UUU": "1.2",
            "VVV": "-0.4",
            "VEC": "288",
            "WSD": "1.3",
            "SKY": "4" if rainy else "1",
            "PTY": "1" if rainy else "0",
            "POP": "60" if rainy else "20",
            "WAV": "-999",
            "PCP": "1mm 미만" if rainy else "강수없음",
            "REH": "85" if rainy else "45",
            "SNO": "적설없음",
        }
        items += [
            {
                "baseDate": params["base_date"],
                "baseTime": params["base_time"],
                "category": category,
                "fcstDate": f"{at:%Y%m%d}",
                "fcstTime": f"{at:%H%M}",
                "fcstValue": value,
                "nx": int(params["nx"]),
                "ny": int(params["ny"]),
            }
            for category, value in values.items()
        ]
    shown = items[: int(params["numOfRows"])]
    body = {
        "dataType": "JSON",
        "items": {"item": shown},
        "pageNo": 1,
        "numOfRows": len(shown),
        "totalCount": len(items),
    }
    return _portal("00", "NORMAL_SERVICE", body)


_POINTS = (
    (
        "역삼1동주민센터",
        "중소폐가전",
        "수거함",
        "서울특별시 강남구",
        "서울특별시 강남구 역삼로7길 16",
        "02-3423-6600",
        "무료",
    ),
    (
        "삼성스토어 강남본점",
        "폐휴대폰",
        "방문배출",
        "서울특별시 강남구",
        "서울특별시 강남구 테헤란로 114",
        "1588-3366",
        "무료",
    ),
    ("한국자원 리사이클센터", "폐자동차", "견인", "경기도 화성시", "경기도 화성시 향남읍 발안로 12", None, None),
)


def _keco(request: Request) -> _Reply:
    fields = ("conmNm", "kndNm", "cltMthdNm", "rgnNm", "addr", "telNo", "cltCstCn")
    rows = [dict(zip(fields, point, strict=True)) for point in _POINTS]
    for name in ("kndNm", "rgnNm", "addr"):
        rows = [row for row in rows if request.params.get(name, "") in str(row[name])]
    shown = rows[: int(request.params["numOfRows"])]
    body = {"totalCount": len(rows), "pageNo": 1, "numOfRows": len(shown), "items": shown}
    return _json({"header": {"resultCode": "00", "resultMsg": "NORMAL_SERVICE"}, "body": body})


_FEES = (
    ("서울특별시", "강남구", "소파", "가구류", "5인용이상", "유료", "15000"),
    ("서울특별시", "강남구", "소파(1인용)", "가구류", "null", "유료", "4,000"),
    ("서울특별시", "강남구", "침대 매트리스", "가구류", "null", "유료", "10000"),
    ("서울특별시", "강남구", "냉장고", "가전제품류", "null", "무료", "0"),
    ("서울특별시", "강남구", "수족관", "기타", "null", "유료", "별도문의"),
    ("서울특별시", "중구", "소파", "가구류", "null", "유료", "8000"),
    ("부산광역시", "중구", "소파", "가구류", "null", "유료", "6000"),
)


def _bulk_waste(request: Request) -> _Reply:
    fields = ("ctpvNm", "sggNm", "larWasNm", "larWasSeNm", "larWasSpcfct", "paidFreeYn", "fee")
    rest = {"mngInstNm": "null", "crtrYmd": "2025-06-30", "insttCode": "3220000", "insttNm": "서울특별시 강남구"}
    rows = [{**dict(zip(fields, fee, strict=True)), **rest} for fee in _FEES]
    for param, name in (("CTPV_NM", "ctpvNm"), ("SGG_NM", "sggNm")):
        rows = [row for row in rows if request.params.get(param) in {None, row[name]}]
    if not rows:
        return _portal("03", "NODATA_ERROR")
    # This service returns its counts as texts and its items as a list.
    body = {"items": rows, "totalCount": str(len(rows)), "numOfRows": request.params["numOfRows"], "pageNo": "1"}
    return _portal("00", "NORMAL_SERVICE", body)


_PRICES = (("신문지", "120.5"), ("골판지", "81.5"), ("압축 (PET)", "423"), ("알루미늄캔", "1,568.0"), ("잉고트", "-"))


def _recyclable_price(request: Request) -> _Reply:
    month, region = request.params["exmnYmd"], request.params["stdgNm"]
    rows = [{"exmnYmd": month, "itemNm": item, "stdgNm": region, "mrktPrc": price} for item, price in _PRICES]
    if region not in {"전국", "수도권"} or month < "202301":
        rows = []
    body = {"totalCount": len(rows), "pageNo": 1, "numOfRows": 100, "items": rows}
    return _json({"header": {"resultCode": "00", "resultMsg": "NORMAL_SERVICE"}, "body": body})


_UNREGISTERED = b"""<OpenAPI_ServiceResponse>
\t<cmmMsgHeader>
\t\t<errMsg>SERVICE ERROR</errMsg>
\t\t<returnAuthMsg>SERVICE_KEY_IS_NOT_REGISTERED_ERROR</returnAuthMsg>
\t\t<returnReasonCode>30</returnReasonCode>
\t</cmmMsgHeader>
</OpenAPI_ServiceResponse>
"""


def _keyed(answer: Callable[[Request], _Reply]) -> Callable[[Request], _Reply]:
    def keyed(request: Request) -> _Reply:
        if request.params.get("serviceKey") != PORTAL_KEY:
            # Status 200 and XML, even to a request for JSON.
            return _Reply(200, _UNREGISTERED, "text/xml;charset=UTF-8")
        return answer(request)

    return keyed


_ANSWERS: dict[Service, Callable[[Request], _Reply]] = {
    "kakao": _kakao,
    "kma": _keyed(_kma),
    "keco": _keyed(_keco),
    "bulk_waste": _keyed(_bulk_waste),
    "recyclable_price": _keyed(_recyclable_price),
}


def _portal(code: str, message: str, body: dict[str, Any] | None = None) -> _Reply:
    response: dict[str, Any] = {"header": {"resultCode": code, "resultMsg": message}}
    return _json({"response": response if body is None else {**response, "body": body}})


def _json(body: Any, *, status: int = 200) -> _Reply:
    return _Reply(status, json.dumps(body, ensure_ascii=False).encode())


class _Http(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, services: Services) -> None:
        self.services = services
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0, the base class's default, closes the connection after each answer.
    server: _Http
    _begun = False

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        service = _PATHS.get(parts.path)
        if service is None:
            self._send(_Reply(404, b"API not found", "text/plain"))
            return
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request(service, params, self.headers.get("authorization", ""))
        # Some tests close the connection early.
        with suppress(ConnectionError):
            self.server.services.answer(request, self._send, self._drip)

    def _send(self, reply: _Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.content_encoding != "identity":
            self.send_header("Content-Encoding", reply.content_encoding)
        self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()
        self.wfile.write(reply.content)

    def _drip(self) -> None:
        # One endless header: each byte arrives before the timeout of a single read.
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: " if not self._begun else b"z")
        self._begun = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass
