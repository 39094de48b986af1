"""The table of settings, and how they are read from flags, environment and file."""

from poussetaches.settings.setting import Setting
from poussetaches.settings.sources import given_settings, load_settings, settings_of
from poussetaches.settings.table import SETTINGS, Settings

__all__ = ["SETTINGS", "Setting", "Settings", "given_settings", "load_settings", "settings_of"]
