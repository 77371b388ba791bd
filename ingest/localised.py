"""The words with which stderr lines begin after their prefix, in the languages PostgreSQL speaks.

Severities (src/backend/utils/error/elog.c, error_severity()) and the labels of the lines that
follow a record are translated by lc_messages; so is the word for an unknown name. Leaves the
English word for each. Messages themselves aren't translated here.
"""

SEVERITIES = {
    "LOG": "LOG LOGG DZIENNIK ЗАПИСУВАННЯ СООБЩЕНИЕ ჟურნალი 로그 日志 日誌 ログ REGISTRO",
    "ERROR": "ERROR ERREUR ERRORE ERRO FEHLER FEL BŁĄD HATA ОШИБКА ПОМИЛКА შეცდომა 오류 错误 錯誤 エラー",
    "FATAL": (
        "FATAL FATALE FATALT KATASTROFALNY ÖLÜMCÜL ВАЖНО ФАТАЛЬНО ფატალური 치명적오류 致命错误 致命的"
    ),
    "PANIC": "PANIC PANIK PANICO PÂNICO PANIKA KRİTİK ПАНИКА ПАНІКА პანიკა 손상 比致命错误还过分的错误",
    "WARNING": (
        "WARNING WARNUNG ATTENTION ATTENZIONE AVISO VARNING OSTRZEŻENIE UYARI ПРЕДУПРЕЖДЕНИЕ "
        "ПОПЕРЕДЖЕННЯ გაფრთხილება 경고 警告"
    ),
    "NOTICE": "NOTICE HINWEIS NOTIFICA NOTA NOTIS UWAGA ЗАМЕЧАНИЕ ПОВІДОМЛЕННЯ 알림 注意",
    "INFO": "INFO INFORMACJA BİLGİ ИНФОРМАЦИЯ ІНФОРМАЦІЯ ინფორმაცია 정보 信息",
    "DEBUG": "DEBUG DEBUG1 DEBUG2 DEBUG3 DEBUG4 DEBUG5 DEPURAÇÃO ОТЛАДКА НАЛАГОДЖЕННЯ გამართვა 디버그 调试",
}

LABELS = {
    "detail": (
        "DETAIL DETALLE DÉTAIL DETTAGLI DETALHE DETALJ SZCZEGÓŁY AYRINTI ПОДРОБНОСТИ ВІДОМОСТІ "
        "დეტალები 상세정보 详细信息 詳細"
    ),
    "hint": (
        "HINT SUGERENCIA TIPP ASTUCE SUGGERIMENTO DICA TIPS PODPOWIEDŹ İPUCU ПОДСКАЗКА УКАЗІВКА "
        "მინიშნება 힌트 提示 ヒント"
    ),
    "internal_query": (
        "QUERY CONSULTA ANFRAGE REQUÊTE FRÅGA ZAPYTANIE SORGU ЗАПРОС ЗАПИТ მოთხოვნა 쿼리 查询 問い合わせ"
    ),
    "context": (
        "CONTEXT CONTEXTO ZUSAMMENHANG CONTEXTE CONTESTO KONTEXT KONTEKST BAĞLAM КОНТЕКСТ "
        "კონტექსტი 내용 上下文 文脈"
    ),
    "location": "LOCATION UBICACIÓN ORT EMPLACEMENT POSIZIONE LOCALIZAÇÃO PLATS 位置",
    "backtrace": "BACKTRACE PILE\u00a0D'APPEL СТЕК ВІДСТЕЖУВАТИ სტეკი 역추적 バックトレース",
    "query": (
        "STATEMENT SENTENCIA ANWEISUNG INSTRUCTION ISTRUZIONE COMANDO SATS WYRAŻENIE KOMUT "
        "ОПЕРАТОР ІНСТРУКЦІЯ ოპერატორი 语句 陳述式 文"
    ),
}

UNKNOWN = frozenset(
    [
        "[unknown]",
        "[desconocido]",
        "[desconhecido]",
        "[unbekannt]",
        "[inconnu]",
        "[sconosciuto]",
        "[okänd]",
        "[nieznany]",
        "[bilinmeyen]",
        "[н/д]",
        "[неизвестно]",
        "[невідомо]",
        "[უცნობი]",
        "[알수없음]",
        "[未知]",
        "[不明]",
    ]
)
"""What stands for a name that isn't known (log_line_prefix's %u, %d and %a)."""

SEVERITY_OF = {word: name for name, words in SEVERITIES.items() for word in words.split()}
LABEL_OF = {
    word.replace("\u00a0", " "): name for name, words in LABELS.items() for word in words.split(" ")
}
"""A translated label -> the field of the record that it belongs to."""
LABEL_OF |= {"PILE D'APPEL": "backtrace", "명령 구문": "query"}

ENGLISH = (
    *("LOG", "ERROR", "FATAL", "PANIC", "WARNING", "NOTICE", "INFO"),
    *("DEBUG", "DEBUG1", "DEBUG2", "DEBUG3", "DEBUG4", "DEBUG5"),
    *("DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "BACKTRACE", "STATEMENT"),
)
