"""The one table of settings, and reading them from flags, environment and file."""

from poussetaches.settings.load import given_settings, load_settings, settings_of
from poussetaches.settings.table import SETTINGS, Setting
from poussetaches.settings.values import Settings

__all__ = ["SETTINGS", "Setting", "Settings", "given_settings", "load_settings", "settings_of"]
